"""Softmax, its logarithm, and the cross-entropy loss; the native loops run along the last axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .native import empty, empty_like, half_accumulator, native


class Softmaxes:
    def softmax(self, x: np.ndarray, axis: int, acc: str) -> np.ndarray:
        half = half_accumulator(acc, x)
        return _along(axis, lambda a, y: native.softmax(a, y, 0, half), x)

    def softmax_backward(self, y: np.ndarray, dy: np.ndarray, axis: int, acc: str) -> np.ndarray:
        half = half_accumulator(acc, y)
        return _along(axis, lambda a, b, dx: native.softmax_backward(a, b, dx, half), y, dy)

    def log_softmax(self, x: np.ndarray, axis: int, acc: str) -> np.ndarray:
        half = half_accumulator(acc, x)
        return _along(axis, lambda a, y: native.log_softmax(a, y, half), x)

    def log_softmax_backward(self, y: np.ndarray, dy: np.ndarray, axis: int, acc: str) -> np.ndarray:
        half = half_accumulator(acc, y)
        return _along(axis, lambda a, b, dx: native.log_softmax_backward(a, b, dx, half), y, dy)

    def cross_entropy_forward(self, logits: np.ndarray, labels: np.ndarray, acc: str) -> np.ndarray:
        loss = empty((), logits.dtype)
        native.cross_entropy_forward(logits, labels, loss, half_accumulator(acc, logits))
        return loss

    def cross_entropy_backward(
        self, logits: np.ndarray, labels: np.ndarray, dy: np.ndarray, acc: str
    ) -> np.ndarray:
        dlogits = empty_like(logits)
        native.cross_entropy_backward(logits, labels, dy, dlogits, half_accumulator(acc, logits))
        return dlogits


def _along(axis: int, function: Callable[..., None], *arrays: np.ndarray) -> np.ndarray:
    """Run function(*arrays, result) with `axis` moved to the end, and move it back."""
    if axis % arrays[0].ndim == arrays[0].ndim - 1:
        result = empty_like(arrays[0])
        function(*arrays, result)
        return result
    moved = [_contiguous(np.moveaxis(x, axis, -1)) for x in arrays]
    result = empty_like(moved[0])
    function(*moved, result)
    return _contiguous(np.moveaxis(result, -1, axis))


def _contiguous(x: np.ndarray) -> np.ndarray:
    y = empty(x.shape, x.dtype)
    np.copyto(y, x)
    return y
