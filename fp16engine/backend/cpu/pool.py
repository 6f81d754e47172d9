"""Maximum and average pooling, vectorised over channels."""

from __future__ import annotations

import numpy as np

from .native import empty, half_accumulator, native

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


class Pooling:
    def max_pool_forward(
        self, x: np.ndarray, size: Pair, stride: Pair, pads: Pads
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = _pooled(x.shape, size, stride, pads)
        y, index = empty(shape, x.dtype), empty(shape, "uint8")
        native.max_pool_forward(x, y, index, *size, *stride, pads)
        return y, index

    def max_pool_backward(
        self,
        index: np.ndarray,
        dy: np.ndarray,
        x_shape: tuple[int, ...],
        size: Pair,
        stride: Pair,
        pads: Pads,
        acc: str,
    ) -> np.ndarray:
        dx = empty(x_shape, dy.dtype)
        native.max_pool_backward(index, dy, dx, *size, *stride, pads, half_accumulator(acc, dy))
        return dx

    def avg_pool_forward(self, x: np.ndarray, size: Pair, stride: Pair, pads: Pads, acc: str) -> np.ndarray:
        y = empty(_pooled(x.shape, size, stride, pads), x.dtype)
        native.avg_pool_forward(x, y, *size, *stride, pads, half_accumulator(acc, x))
        return y

    def avg_pool_backward(
        self, dy: np.ndarray, x_shape: tuple[int, ...], size: Pair, stride: Pair, pads: Pads, acc: str
    ) -> np.ndarray:
        dx = empty(x_shape, dy.dtype)
        native.avg_pool_backward(dy, dx, *size, *stride, pads, half_accumulator(acc, dy))
        return dx


def _pooled(shape: tuple[int, ...], size: Pair, stride: Pair, pads: Pads) -> tuple[int, ...]:
    n, height, width, channels = shape
    rows = (height + pads[0] + pads[1] - size[0]) // stride[0] + 1
    columns = (width + pads[2] + pads[3] - size[1]) // stride[1] + 1
    return n, rows, columns, channels
