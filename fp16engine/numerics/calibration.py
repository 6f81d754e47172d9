"""Calibrated probabilities: logits divided by one temperature (Guo et al., 1706.04599).

No prediction changes, only how sure it is.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LOWEST, _HIGHEST = -6.0, 6.0  # natural logarithms of the temperatures that are tried
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 60  # each shrinks the interval by 0.618: 12 * 0.618^60 is 3e-12


def softmax(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return softmax(logits / temperature) in float64; logits: (N, classes).

    >>> softmax([[0.0, 0.0]]).tolist()
    [[0.5, 0.5]]
    """
    z = np.asarray(logits, np.float64) / temperature
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature that makes the labels most likely: the minimum of the mean cross-entropy.

    logits: (N, classes), finite; labels: (N,) class numbers. The cross-entropy is convex in 1 / T, so one
    minimum is found, by golden sections of log T within e^-6 to e^6. Raises ValueError for other shapes.

    >>> round(temperature([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]], [0, 1, 0, 1]), 3)
    1.82
    """
    z, y = np.asarray(logits, np.float64), np.asarray(labels)
    if z.ndim != 2 or y.shape != (len(z),) or not len(z):
        raise ValueError(f"labels must be of shape (N,) for logits (N, classes), got {y.shape} and {z.shape}")
    z = z - z.max(axis=1, keepdims=True)

    def loss(log_t: float) -> float:
        scaled = z * math.exp(-log_t)
        return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(z)), y]))

    low, high = _LOWEST, _HIGHEST
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
