"""Rows of a table, and scattered sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..base import Array, Shape
from .elementwise import Elementwise
from .shape import is_basic, view


class Embeddings(Elementwise):
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
        slots = self.from_numpy(flat_indices(shape, index))
        out = self.empty(shape, dtype)
        self.native.scatter_rows(slots, dy, out.reshape(-1), half)
        return out


def flat_indices(shape: Shape, index: Any) -> np.ndarray:
    """The flat indices, int64, that `index` selects in an array of `shape`, in the shape of the result."""
    return np.ascontiguousarray(np.arange(math.prod(shape)).reshape(shape)[index])
