"""Maximum and average pooling."""

from __future__ import annotations

from ..base import Array, Pads, Pair, Shape
from .device import Device


class Pooling(Device):
    def max_pool_forward(self, x: Array, size: Pair, stride: Pair, pads: Pads) -> tuple[Array, Array]:
        shape = _pooled(x.shape, size, stride, pads)
        y, index = self.empty(shape, x.dtype), self.empty(shape, "uint8")
        self.native.max_pool_forward(x, y, index, *size, *stride, pads)
        return y, index

    def max_pool_backward(
        self, index: Array, dy: Array, x_shape: Shape, size: Pair, stride: Pair, pads: Pads, acc: str
    ) -> Array:
        dx = self.empty(x_shape, dy.dtype)
        self.native.max_pool_backward(index, dy, dx, *size, *stride, pads, self.half_accumulator(acc, dy))
        return dx

    def avg_pool_forward(self, x: Array, size: Pair, stride: Pair, pads: Pads, acc: str) -> Array:
        y = self.empty(_pooled(x.shape, size, stride, pads), x.dtype)
        self.native.avg_pool_forward(x, y, *size, *stride, pads, self.half_accumulator(acc, x))
        return y

    def avg_pool_backward(
        self, dy: Array, x_shape: Shape, size: Pair, stride: Pair, pads: Pads, acc: str
    ) -> Array:
        dx = self.empty(x_shape, dy.dtype)
        self.native.avg_pool_backward(dy, dx, *size, *stride, pads, self.half_accumulator(acc, dy))
        return dx


def _pooled(shape: Shape, size: Pair, stride: Pair, pads: Pads) -> Shape:
    n, height, width, channels = shape
    rows = (height + pads[0] + pads[1] - size[0]) // stride[0] + 1
    columns = (width + pads[2] + pads[3] - size[1]) // stride[1] + 1
    return n, rows, columns, channels
