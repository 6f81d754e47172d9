"""Rows of a table."""

from __future__ import annotations

import numpy as np

from .registers import store
from .shape import index_add


def embedding(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    return store(table[ids], table.dtype)


def embedding_backward(ids: np.ndarray, dy: np.ndarray, num_rows: int, acc: str) -> np.ndarray:
    return index_add((num_rows, dy.shape[-1]), dy.dtype.name, ids, dy, acc)


def gather(data: np.ndarray, index: np.ndarray) -> np.ndarray:
    return store(data[index], data.dtype)
