"""Scaled dot-product attention."""

from __future__ import annotations

import numpy as np

from ...precision import chunk_terms
from .elementwise import binary
from .linear import matmul
from .registers import accumulator, store
from .softmax import softmax, softmax_backward
from .sums import dot


def attention_forward(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool, lengths: np.ndarray | None, acc: str
) -> tuple[np.ndarray, np.ndarray]:
    scaled = binary("mul", q, q.shape[-1] ** -0.5)
    scores = matmul(scaled, k, False, True, acc)
    # exp(-inf) is +0, so a masked score adds nothing to the softmax.
    if causal:
        scores[..., np.triu(np.ones(scores.shape[-2:], bool), 1)] = -np.inf
    if lengths is not None:
        padding = np.arange(k.shape[2]) >= lengths[:, None]
        scores[np.broadcast_to(padding[:, None, None], scores.shape)] = -np.inf
    probs = softmax(scores, -1, acc)
    if lengths is not None:
        probs[lengths == 0] = 0
    return matmul(probs, v, False, False, acc), probs


def attention_backward(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, probs: np.ndarray, dy: np.ndarray, acc: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scale = q.shape[-1] ** -0.5
    ds = softmax_backward(probs, matmul(dy, v, False, True, acc), -1, acc)
    sums = dot(ds, k, accumulator(q, acc), chunk_terms(acc))
    dq = store(sums * sums.dtype.type(scale), q.dtype)
    dk = matmul(ds, binary("mul", q, scale), True, False, acc)
    return dq, dk, matmul(probs, dy, True, False, acc)
