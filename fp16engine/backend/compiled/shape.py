"""Filling, copying and rearranging arrays: moves of data that round nothing, and casts, which do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...floats import numpy_dtype
from ..base import Array, Axes, Pads, Shape
from .device import Device


class Storage(Device):
    def full(self, shape: Shape, value: float, dtype: str | np.dtype) -> Array:
        x = self.empty(shape, dtype)
        self._fill(x, value)
        return x

    def zeros(self, shape: Shape, dtype: str | np.dtype) -> Array:
        return self.full(shape, 0, dtype)

    def copy(self, x: Array) -> Array:
        if x.dtype == np.bool_:  # as bytes
            return self.copy(x.view(np.uint8)).view(np.bool_)
        y = self._empty_like(x)
        self._assign(y, x)
        return y

    def cast(self, x: Array, dtype: str) -> Array:
        if x.dtype == numpy_dtype(dtype):
            return self.copy(x)
        y = self.empty(x.shape, dtype)
        self.native.cast(x, y)
        return y

    def transpose(self, x: Array, axes: Axes) -> Array:
        return self.copy(x.transpose(axes))

    def getitem(self, x: Array, index: Any) -> Array:
        return self.copy(view(x, index) if is_basic(index) else self.xp.asarray(x[index]))

    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        return self.copy(self.xp.broadcast_to(x, shape))

    def cat(self, xs: Sequence[Array], axis: int) -> Array:
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        y = self.empty(tuple(shape), xs[0].dtype)
        self.xp.concatenate(xs, axis=axis, out=y)
        return y

    def pad2d(self, x: Array, pads: Pads) -> Array:
        top, bottom, left, right = pads
        n, height, width, channels = x.shape
        y = self.zeros((n, height + top + bottom, width + left + right, channels), x.dtype)
        self._assign(y[:, top : top + height, left : left + width], x)
        return y

    def crop2d(self, x: Array, pads: Pads) -> Array:
        top, bottom, left, right = pads
        return self.copy(x[:, top : x.shape[1] - bottom, left : x.shape[2] - right])

    def _fill(self, x: Array, value: float) -> None:
        """Set every element of a new array to fl(value)."""
        x.fill(value)

    def _assign(self, y: Array, x: Array) -> None:
        """Copy x into y, both of any strides."""
        self.xp.copyto(y, x)


def is_basic(index: object) -> bool:
    """True for integers, slices, None and Ellipsis: such an index repeats no element, and gives a view."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None
        or part is Ellipsis
        or isinstance(part, slice)
        or (isinstance(part, int | np.integer) and not isinstance(part, bool))
        for part in parts
    )


def view(x: Array, index: Any) -> Array:
    """x[index] of a basic index as a view, even where it is a single element."""
    parts = index if isinstance(index, tuple) else (index,)
    return x[parts if any(part is Ellipsis for part in parts) else (*parts, ...)]
