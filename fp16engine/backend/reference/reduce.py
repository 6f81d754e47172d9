"""Sums, means and maxima over axes."""

from __future__ import annotations

import numpy as np

from .elementwise import unary_backward
from .registers import accumulator, load, store
from .sums import average, total


def sum(x: np.ndarray, axes: tuple[int, ...], acc: str) -> np.ndarray:
    return store(_kept(total(load(x), axes, accumulator(x, acc)), x, axes), x.dtype)


def relu_bias_backward(y: np.ndarray, dy: np.ndarray, acc: str) -> tuple[np.ndarray, np.ndarray]:
    dx = unary_backward("relu", None, y, dy)
    return dx, sum(dx, tuple(range(dx.ndim - 1)), acc).reshape(-1)


def mean(x: np.ndarray, axes: tuple[int, ...], acc: str) -> np.ndarray:
    return store(_kept(average(load(x), axes, accumulator(x, acc)), x, axes), x.dtype)


def add_to_sum(total: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.promote_types(x.dtype, np.float32))
    return wide if total is None else total + wide


def mean_of_sum(total: np.ndarray, count: int, dtype: str) -> np.ndarray:
    return store(total / total.dtype.type(count), np.dtype(dtype))


def max(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return store(x.max(axes, keepdims=True), x.dtype)


def max_backward(x: np.ndarray, y: np.ndarray, dy: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    holds = (x == y) | (np.isnan(x) & np.isnan(y))
    share = load(dy) / holds.sum(axes, keepdims=True).astype(load(dy).dtype)
    return store(np.where(holds, share, share.dtype.type(0)), x.dtype)


def _kept(result: np.ndarray, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Put the reduced axes back with size 1."""
    return np.reshape(result, [1 if axis in axes else size for axis, size in enumerate(x.shape)])
