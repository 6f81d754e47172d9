"""Filling, copying and rearranging arrays: moves of data that round nothing, and casts, which do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base import Array, Axes, Pads, Shape
from .device import DTYPES, Device


class Storage(Device):
    def full(self, shape: Shape, value: float, dtype: str | np.dtype) -> Array:
        x = self.empty(shape, dtype)
        x.fill(value)
        return x

    def zeros(self, shape: Shape, dtype: str | np.dtype) -> Array:
        return self.full(shape, 0, dtype)

    def copy(self, x: Array) -> Array:
        y = self._empty_like(x)
        self.xp.copyto(y, x)
        return y

    def cast(self, x: Array, dtype: str) -> Array:
        if x.dtype == DTYPES[dtype]:
            return self.copy(x)
        y = self.empty(x.shape, dtype)
        self.native.cast(x, y)
        return y

    def transpose(self, x: Array, axes: Axes) -> Array:
        return self.copy(x.transpose(axes))

    def getitem(self, x: Array, index: Any) -> Array:
        return self.copy(self.xp.asarray(x[index]))

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
        y[:, top : top + height, left : left + width] = x
        return y

    def crop2d(self, x: Array, pads: Pads) -> Array:
        top, bottom, left, right = pads
        return self.copy(x[:, top : x.shape[1] - bottom, left : x.shape[2] - right])
