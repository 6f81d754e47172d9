"""Rows of a table, and scattered sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from .registers import accumulator, load, store


def embedding(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    return store(table[ids], table.dtype)


def embedding_backward(ids: np.ndarray, dy: np.ndarray, num_rows: int, acc: str) -> np.ndarray:
    return index_add((num_rows, dy.shape[-1]), dy.dtype.name, ids, dy, acc)


def gather(data: np.ndarray, index: np.ndarray) -> np.ndarray:
    return store(data[index], data.dtype)


def index_add(shape: tuple[int, ...], dtype: str, index: Any, dy: np.ndarray, acc: str) -> np.ndarray:
    partial = accumulator(dy, acc)
    out = np.zeros(shape, partial)
    # add.at is sequential; on binary16 it rounds after every addition.
    np.add.at(out, index, dy if partial == np.float16 else load(dy))
    return store(out, dtype)
