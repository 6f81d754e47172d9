"""Sums, means and maxima over axes; the compiled loops reduce the middle one of three axes."""

from __future__ import annotations

import math

from ..base import Array, Axes, Shape
from .elementwise import Elementwise


class Reductions(Elementwise):
    def relu_bias_backward(self, y: Array, dy: Array, acc: str) -> tuple[Array, Array]:
        dx = self.unary_backward("relu", None, y, dy)
        return dx, self.sum(dx, tuple(range(len(dx.shape) - 1)), acc).reshape(-1)

    def sum(self, x: Array, axes: Axes, acc: str) -> Array:
        return self._reduce("sum", x, axes, self.half_accumulator(acc, x))

    def mean(self, x: Array, axes: Axes, acc: str) -> Array:
        return self._reduce("mean", x, axes, self.half_accumulator(acc, x))

    def add_to_sum(self, total: Array | None, x: Array) -> Array:
        wide = self.cast(x, "float32")
        return wide if total is None else self.binary("add", total, wide)

    def mean_of_sum(self, total: Array, count: int, dtype: str) -> Array:
        return self.cast(self.binary("div", total, float(count)), dtype)

    def max(self, x: Array, axes: Axes) -> Array:
        return self._reduce("max", x, axes, False)

    def max_backward(self, x: Array, y: Array, dy: Array, axes: Axes) -> Array:
        extents = _extents(x.shape, axes)
        if extents is not None:
            dx = self._empty_like(x)
            self.native.max_backward(x, y, dy, dx, *extents)
            return dx
        order = _reduced_first(x.ndim, axes)
        moved = self.transpose(x, order)
        dx = self._empty_like(moved)
        self.native.max_backward(moved, y, dy, dx, *_leading(x.shape, axes))
        return self.transpose(dx, tuple(order.index(axis) for axis in range(x.ndim)))

    def _reduce(self, op: str, x: Array, axes: Axes, half: bool) -> Array:
        y = self.empty(tuple(1 if i in axes else n for i, n in enumerate(x.shape)), x.dtype)
        extents = _extents(x.shape, axes)
        if extents is None:
            x, extents = self.transpose(x, _reduced_first(x.ndim, axes)), _leading(x.shape, axes)
        self.native.reduce(op, x, y, *extents, half)
        return y


def _extents(shape: Shape, axes: Axes) -> tuple[int, int, int] | None:
    """Extents before, within and behind the reduced axes; None where a kept axis lies between them."""
    extents = [1, 1, 1]
    part = 0
    for axis, n in enumerate(shape):
        if axis in axes:
            if part == 2 and n != 1:
                return None
            part = max(part, 1) if n != 1 else part
            extents[1] *= n
        elif n != 1:
            part = 2 if part else 0
            extents[part] *= n
    return extents[0], extents[1], extents[2]


def _leading(shape: Shape, axes: Axes) -> tuple[int, int, int]:
    kept = math.prod(n for axis, n in enumerate(shape) if axis not in axes)
    return 1, math.prod(shape[axis] for axis in axes), kept


def _reduced_first(ndim: int, axes: Axes) -> Axes:
    return axes + tuple(axis for axis in range(ndim) if axis not in axes)
