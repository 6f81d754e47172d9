"""Scaled dot-product attention."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...block_format import BlockFormat
from ...precision import chunk_terms
from ..heads import apart, joined, parts
from .elementwise import binary
from .linear import matmul
from .quantize import operands
from .registers import accumulator, store
from .shape import cat, transpose
from .softmax import softmax, softmax_backward
from .sums import dot


def attention_forward(
    q: np.ndarray,
    k: np.ndarray | None,
    v: np.ndarray | None,
    causal: bool,
    lengths: np.ndarray | None,
    acc: str,
    operand: BlockFormat | None = None,
    heads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    if heads is not None:
        q, k, v = (apart(transpose, x, heads) for x in parts(q, k, v))
        y, probs = attention_forward(q, k, v, causal, lengths, acc, operand)
        return joined(transpose, y), probs
    assert k is not None and v is not None
    rounded = _rounding(operand)
    scaled = binary("mul", q, q.shape[-1] ** -0.5)
    scores = matmul(*rounded(scaled, k, False, True), False, True, acc)
    # exp(-inf) is +0, so a masked score adds nothing to the softmax.
    if causal:
        scores[..., np.triu(np.ones(scores.shape[-2:], bool), 1)] = -np.inf
    if lengths is not None:
        padding = np.arange(k.shape[2]) >= lengths[:, None]
        scores[np.broadcast_to(padding[:, None, None], scores.shape)] = -np.inf
    probs = softmax(scores, -1, acc)
    if lengths is not None:
        probs[lengths == 0] = 0
    return matmul(*rounded(probs, v, False, False), False, False, acc), probs


def attention_backward(
    q: np.ndarray,
    k: np.ndarray | None,
    v: np.ndarray | None,
    probs: np.ndarray,
    dy: np.ndarray,
    acc: str,
    operand: BlockFormat | None = None,
    heads: int | None = None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    if heads is not None:
        packed = k is None
        q, k, v, dy = (apart(transpose, x, heads) for x in (*parts(q, k, v), dy))
        gradients = attention_backward(q, k, v, probs, dy, acc, operand)
        dq, dk, dv = (joined(transpose, x) for x in gradients)
        return (cat((dq, dk, dv), 2), None, None) if packed else (dq, dk, dv)
    assert k is not None and v is not None
    rounded = _rounding(operand)
    scale = q.shape[-1] ** -0.5
    dp = matmul(*rounded(dy, v, False, True), False, True, acc)
    ds = softmax_backward(probs, dp, -1, acc)
    sums = dot(*rounded(ds, k, False, False), accumulator(q, acc), chunk_terms(acc))
    dq = store(sums * sums.dtype.type(scale), q.dtype)
    dk = matmul(*rounded(ds, binary("mul", q, scale), True, False), True, False, acc)
    return dq, dk, matmul(*rounded(probs, dy, True, False), True, False, acc)


def _rounding(
    operand: BlockFormat | None,
) -> Callable[[np.ndarray, np.ndarray, bool, bool], tuple[np.ndarray, np.ndarray]]:
    """Return what rounds the two sides of each product of a call, in turn."""
    if operand is None:
        return lambda a, b, transpose_a, transpose_b: (a, b)
    return operands(operand).of_matmul
