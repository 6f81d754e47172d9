"""Matrix products."""

from __future__ import annotations

import numpy as np

from ...block_format import BlockFormat
from ...precision import chunk_terms
from .quantize import operands
from .registers import accumulator, load, store
from .sums import dot, rounded, total


def matmul(
    a: np.ndarray,
    b: np.ndarray,
    transpose_a: bool,
    transpose_b: bool,
    acc: str,
    operand: BlockFormat | None = None,
) -> np.ndarray:
    if operand is not None:
        a, b = operands(operand).of_matmul(a, b, transpose_a, transpose_b)
    left = a.swapaxes(-1, -2) if transpose_a else a
    right = b.swapaxes(-1, -2) if transpose_b else b
    return store(dot(left, right, accumulator(a, acc), chunk_terms(acc)), a.dtype)


def linear_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, acc: str, operand: BlockFormat | None = None
) -> np.ndarray:
    partial = accumulator(x, acc)
    if operand is not None:
        x, w = operands(operand).of_matmul(x, w, False, True)
    return store(add_bias(dot(x, w.T, partial, chunk_terms(acc)), b, partial), x.dtype)


def linear_backward(
    x: np.ndarray,
    w: np.ndarray,
    dy: np.ndarray,
    needs: tuple[bool, bool, bool],
    acc: str,
    operand: BlockFormat | None = None,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    partial = accumulator(x, acc)
    left, right, upper, lower = dy, w, dy, x
    if operand is not None:
        rounding = operands(operand)
        if needs[0]:
            left, right = rounding.of_matmul(dy, w, False, False)
        if needs[1]:
            upper, lower = rounding.of_matmul(dy, x, True, False)
    dx = store(dot(left, right, partial, chunk_terms(acc)), x.dtype) if needs[0] else None
    dw = store(dot(upper.T, lower, partial, chunk_terms(acc)), w.dtype) if needs[1] else None
    db = store(total(load(dy), (0,), partial), w.dtype) if needs[2] else None
    return dx, dw, db


def add_bias(sums: np.ndarray, b: np.ndarray | None, partial: np.dtype) -> np.ndarray:
    """Return sums (..., K) + b (K,) in registers, rounded once more if the accumulator is binary16."""
    return sums if b is None else rounded(sums + load(b), partial)
