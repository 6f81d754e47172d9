"""Matrix products."""

from __future__ import annotations

import numpy as np

from ...precision import chunk_terms
from .registers import accumulator, load, store
from .sums import dot, rounded, total


def matmul(a: np.ndarray, b: np.ndarray, transpose_a: bool, transpose_b: bool, acc: str) -> np.ndarray:
    left = a.swapaxes(-1, -2) if transpose_a else a
    right = b.swapaxes(-1, -2) if transpose_b else b
    return store(dot(left, right, accumulator(a, acc), chunk_terms(acc)), a.dtype)


def linear_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, acc: str) -> np.ndarray:
    partial = accumulator(x, acc)
    return store(add_bias(dot(x, w.T, partial, chunk_terms(acc)), b, partial), x.dtype)


def linear_backward(
    x: np.ndarray, w: np.ndarray, dy: np.ndarray, needs: tuple[bool, bool, bool], acc: str
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    partial = accumulator(x, acc)
    dx = store(dot(dy, w, partial, chunk_terms(acc)), x.dtype) if needs[0] else None
    dw = store(dot(dy.T, x, partial, chunk_terms(acc)), w.dtype) if needs[1] else None
    db = store(total(load(dy), (0,), partial), w.dtype) if needs[2] else None
    return dx, dw, db


def add_bias(sums: np.ndarray, b: np.ndarray | None, partial: np.dtype) -> np.ndarray:
    """Return sums (..., K) + b (K,) in registers, rounded once more if the accumulator is binary16."""
    return sums if b is None else rounded(sums + load(b), partial)
