"""Rows of tables, scattered sums, and dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..base import Array, Shape
from .elementwise import Elementwise
from .shape import is_basic, view


class Sparse(Elementwise):
    def embedding(self, ids: Array, table: Array) -> Array:
        y = self.empty((*ids.shape, *table.shape[1:]), table.dtype)
        self.native.take_rows(table, ids, y)
        return y

    def embedding_backward(self, ids: Array, dy: Array, num_rows: int, acc: str) -> Array:
        dtable = self.empty((num_rows, dy.shape[-1]), dy.dtype)
        self.native.scatter_rows(ids, dy, dtable, self.half_accumulator(acc, dy))
        return dtable

    def gather(self, data: Array, index: Array) -> Array:
        return self.embedding(index, data)

    def index_add(self, shape: Shape, dtype: str, index: Any, dy: Array, acc: str) -> Array:
        half = self.half_accumulator(acc, dy)
        if is_basic(index):
            out = self.zeros(shape, dtype)
            self._assign(view(out, index), self.binary("add", dy, 0.0))  # 0 + -0 is +0
            return out
        places = self.from_numpy(places_of(shape, index))
        out = self.empty(shape, dtype)
        self.native.scatter_rows(places, dy, out.reshape(-1), half)
        return out

    def augment(
        self,
        data: Array,
        index: Array,
        seed: int,
        epoch: int | Array,
        flip_lr: bool,
        flip_ud: bool,
        rotation: float,
        shift: int,
        brightness: float,
        low: float,
        high: float,
        fill: float | None,
    ) -> Array:
        y = self.empty((index.shape[0], *data.shape[1:]), data.dtype)
        clock, number = (epoch, 0) if isinstance(epoch, self.xp.ndarray) else (None, epoch)
        mirrored, outside = fill is None, 0.0 if fill is None else fill
        changes = (flip_lr, flip_ud, rotation, shift, brightness, low, high, mirrored, outside)
        self.native.augment(data, index, clock, y, seed, number, *changes)
        return y

    def dropout(self, x: Array, p: float, seed: int, offset: int) -> Array:
        y = self._empty_like(x)
        self.native.dropout(x, y, p, seed, offset)
        return y


def places_of(shape: Shape, index: Any) -> np.ndarray:
    """The flat places int64 that index names in an array of `shape`, in the shape of the result."""
    return np.ascontiguousarray(np.arange(math.prod(shape)).reshape(shape)[index])
