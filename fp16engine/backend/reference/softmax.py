"""Softmax, its logarithm, and the cross-entropy of the two."""

from __future__ import annotations

import numpy as np

from .registers import accumulator, load, store
from .sums import average, dot, total


def softmax(x: np.ndarray, axis: int, acc: str) -> np.ndarray:
    exps, sums = _exps(load(x), axis, accumulator(x, acc))
    return store(exps / sums, x.dtype)


def softmax_backward(y: np.ndarray, dy: np.ndarray, axis: int, acc: str) -> np.ndarray:
    rows, gradients = np.moveaxis(y, axis, -1), np.moveaxis(dy, axis, -1)
    sums = dot(gradients[..., None, :], rows[..., :, None], accumulator(y, acc))[..., 0]
    return store(np.moveaxis(load(rows) * (load(gradients) - sums), -1, axis), y.dtype)


def log_softmax(x: np.ndarray, axis: int, acc: str) -> np.ndarray:
    r = load(x)
    _, sums = _exps(r, axis, accumulator(x, acc))
    return store((r - r.max(axis, keepdims=True)) - np.log(sums), x.dtype)


def log_softmax_backward(y: np.ndarray, dy: np.ndarray, axis: int, acc: str) -> np.ndarray:
    r = load(dy)
    sums = np.expand_dims(total(r, (axis % dy.ndim,), accumulator(dy, acc)), axis)
    return store(r - np.exp(load(y)) * sums, dy.dtype)


def cross_entropy_forward(
    logits: np.ndarray, labels: np.ndarray, acc: str, smoothing: float = 0.0
) -> np.ndarray:
    r = load(logits)
    partial = accumulator(logits, acc)
    _, sums = _exps(r, 1, partial)
    chosen = np.take_along_axis(r, np.maximum(labels, 0)[:, None], 1) - r.max(1, keepdims=True)
    if smoothing > 0:
        distance = average(r, (1,), partial)[:, None] - r.max(1, keepdims=True)
        chosen = r.dtype.type(1.0 - smoothing) * chosen + r.dtype.type(smoothing) * distance
    losses = (np.log(sums) - chosen)[:, 0]
    losses[labels < 0] = 0
    return store(total(losses, (0,), partial) / losses.dtype.type(_counted(labels)), logits.dtype)


def cross_entropy_backward(
    logits: np.ndarray, labels: np.ndarray, dy: np.ndarray, acc: str, smoothing: float = 0.0
) -> np.ndarray:
    exps, sums = _exps(load(logits), 1, accumulator(logits, acc))
    everywhere = smoothing / logits.shape[1]
    on, off = (exps.dtype.type(value) for value in (1.0 - smoothing + everywhere, everywhere))
    target = np.where(np.arange(logits.shape[1]) == labels[:, None], on, off)
    gradients = (exps / sums - target) * (load(dy) / exps.dtype.type(_counted(labels)))
    gradients[labels < 0] = 0
    return store(gradients, logits.dtype)


def _counted(labels: np.ndarray) -> int:
    return int(np.count_nonzero(labels >= 0))


def _exps(r: np.ndarray, axis: int, partial: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return exp(r - max) and its sums along `axis`, kept with size 1."""
    exps = np.exp(r - r.max(axis, keepdims=True))
    return exps, np.expand_dims(total(exps, (axis % r.ndim,), partial), axis)
