"""Dropout, driven by Philox."""

from __future__ import annotations

import math

import numpy as np

from .random import words
from .registers import load, store


def dropout(x: np.ndarray, p: float, seed: int, offset: int) -> np.ndarray:
    drawn = words(x.size, seed, offset).reshape(x.shape)
    keep = drawn.astype(np.uint64) >= math.ceil(p * 2.0**32)  # word * 2^-32 >= p, in integers
    r = load(x)
    return store(np.where(keep, r * (1 / (1 - p)), r.dtype.type(0)), x.dtype)
