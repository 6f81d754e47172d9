"""Rows of tables, scattered sums, and dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .attention import Attention
from .native import empty, empty_like, half_accumulator, native


class Sparse(Attention):
    def embedding(self, ids: np.ndarray, table: np.ndarray) -> np.ndarray:
        y = empty((*ids.shape, *table.shape[1:]), table.dtype)
        native.take_rows(table, ids, y)
        return y

    def embedding_backward(self, ids: np.ndarray, dy: np.ndarray, num_rows: int, acc: str) -> np.ndarray:
        dtable = empty((num_rows, dy.shape[-1]), dy.dtype)
        native.scatter_rows(ids, dy, dtable, half_accumulator(acc, dy))
        return dtable

    def index_add(
        self, shape: tuple[int, ...], dtype: str, index: Any, dy: np.ndarray, acc: str
    ) -> np.ndarray:
        half = half_accumulator(acc, dy)
        if _is_basic(index):
            out = self.zeros(shape, dtype)  # type: ignore[attr-defined]
            out[index] = self.binary("add", dy, 0.0)  # type: ignore[attr-defined]  # 0 + -0 is +0
            return out
        places = np.ascontiguousarray(np.arange(math.prod(shape)).reshape(shape)[index])
        out = empty(shape, dtype)
        native.scatter_rows(places, dy, out.reshape(-1), half)
        return out

    def dropout(self, x: np.ndarray, p: float, seed: int, offset: int) -> np.ndarray:
        y = empty_like(x)
        native.dropout(x, y, p, seed, offset)
        return y


def _is_basic(index: object) -> bool:
    """True for integers, slices, None and Ellipsis: such an index names no place twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None
        or part is Ellipsis
        or isinstance(part, slice)
        or (isinstance(part, int | np.integer) and not isinstance(part, bool))
        for part in parts
    )
