"""Making, copying, casting and testing arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .registers import store


def empty(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.empty(shape, dtype)


def zeros(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.zeros(shape, dtype)


def full(shape: tuple[int, ...], value: float, dtype: str) -> np.ndarray:
    return np.full(shape, value, dtype)


def from_numpy(a: np.ndarray) -> np.ndarray:
    return store(a, a.dtype)


def cast(x: np.ndarray, dtype: str) -> np.ndarray:
    return store(x, dtype)


def copy(x: np.ndarray) -> np.ndarray:
    return store(x, x.dtype)


def all_finite(arrays: Sequence[np.ndarray]) -> bool:
    return all(bool(np.isfinite(x).all()) for x in arrays)
