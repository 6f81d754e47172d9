"""Softmax, its logarithm, and the cross-entropy loss; the compiled loops run along the last axis."""

from __future__ import annotations

from collections.abc import Callable

from ..base import Array
from .shape import Storage


class Softmaxes(Storage):
    def softmax(self, x: Array, axis: int, acc: str) -> Array:
        half = self.half_accumulator(acc, x)
        return self._along(axis, lambda a, y: self.native.softmax(a, y, 0, None, half), x)

    def softmax_backward(self, y: Array, dy: Array, axis: int, acc: str) -> Array:
        half = self.half_accumulator(acc, y)
        return self._along(axis, lambda a, b, dx: self.native.softmax_backward(a, b, dx, half), y, dy)

    def log_softmax(self, x: Array, axis: int, acc: str) -> Array:
        half = self.half_accumulator(acc, x)
        return self._along(axis, lambda a, y: self.native.log_softmax(a, y, half), x)

    def log_softmax_backward(self, y: Array, dy: Array, axis: int, acc: str) -> Array:
        half = self.half_accumulator(acc, y)
        return self._along(axis, lambda a, b, dx: self.native.log_softmax_backward(a, b, dx, half), y, dy)

    def cross_entropy_forward(self, logits: Array, labels: Array, acc: str, smoothing: float = 0.0) -> Array:
        loss = self.empty((), logits.dtype)
        half = self.half_accumulator(acc, logits)
        self.native.cross_entropy_forward(logits, labels, loss, smoothing, half)
        return loss

    def cross_entropy_backward(
        self, logits: Array, labels: Array, dy: Array, acc: str, smoothing: float = 0.0
    ) -> Array:
        dlogits = self._empty_like(logits)
        half = self.half_accumulator(acc, logits)
        self.native.cross_entropy_backward(logits, labels, dy, dlogits, smoothing, half)
        return dlogits

    def _along(self, axis: int, function: Callable[..., None], *arrays: Array) -> Array:
        """Run function(*arrays, result) with `axis` moved to the end, and move it back."""
        if axis % arrays[0].ndim == arrays[0].ndim - 1:
            result = self._empty_like(arrays[0])
            function(*arrays, result)
            return result
        moved = [self.copy(self.xp.moveaxis(x, axis, -1)) for x in arrays]
        result = self._empty_like(moved[0])
        function(*moved, result)
        return self.copy(self.xp.moveaxis(result, -1, axis))
