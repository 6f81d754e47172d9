"""Scaled dot-product attention."""

from __future__ import annotations

import numpy as np

from .elementwise import binary
from .linear import matmul
from .registers import accumulator, store
from .softmax import softmax, softmax_backward
from .sums import dot


def attention_forward(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool, acc: str
) -> tuple[np.ndarray, np.ndarray]:
    scaled = binary("mul", q, q.shape[-1] ** -0.5)
    scores = matmul(scaled, k, False, True, acc)
    if causal:
        # exp(-inf) is +0, so a masked score adds nothing to the softmax; key 0 is never masked.
        scores[..., np.triu(np.ones(scores.shape[-2:], bool), 1)] = -np.inf
    probs = softmax(scores, -1, acc)
    return matmul(probs, v, False, False, acc), probs


def attention_backward(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, probs: np.ndarray, dy: np.ndarray, acc: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scale = q.shape[-1] ** -0.5
    ds = softmax_backward(probs, matmul(dy, v, False, True, acc), -1, acc)
    sums = dot(ds, k, accumulator(q, acc))
    dq = store(sums * sums.dtype.type(scale), q.dtype)
    dk = matmul(ds, binary("mul", q, scale), True, False, acc)
    return dq, dk, matmul(probs, dy, True, False, acc)
