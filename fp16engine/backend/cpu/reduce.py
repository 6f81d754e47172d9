"""Sums, means and maxima over axes; the compiled loops reduce the middle one of three axes."""

from __future__ import annotations

import math

import numpy as np

from .native import empty, empty_like, half_accumulator, native


class Reductions:
    def sum(self, x: np.ndarray, axes: tuple[int, ...], acc: str) -> np.ndarray:
        return _reduce("sum", x, axes, half_accumulator(acc, x))

    def mean(self, x: np.ndarray, axes: tuple[int, ...], acc: str) -> np.ndarray:
        return _reduce("mean", x, axes, half_accumulator(acc, x))

    def max(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return _reduce("max", x, axes, False)

    def max_backward(self, x: np.ndarray, y: np.ndarray, dy: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        extents = _extents(x.shape, axes)
        if extents is not None:
            dx = empty_like(x)
            native.max_backward(x, y, dy, dx, *extents)
            return dx
        order = _reduced_first(x.ndim, axes)
        moved = _moved(x, order)
        dx = empty_like(moved)
        native.max_backward(moved, y, dy, dx, *_leading(x.shape, axes))
        return _moved(dx, tuple(np.argsort(order)))


def _reduce(op: str, x: np.ndarray, axes: tuple[int, ...], half: bool) -> np.ndarray:
    y = empty(tuple(1 if i in axes else n for i, n in enumerate(x.shape)), x.dtype)
    extents = _extents(x.shape, axes)
    if extents is None:
        x, extents = _moved(x, _reduced_first(x.ndim, axes)), _leading(x.shape, axes)
    native.reduce(op, x, y, *extents, half)
    return y


def _extents(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Extents before, within and behind the reduced axes; None where a kept axis lies between them."""
    extents = [1, 1, 1]
    part = 0
    for axis, n in enumerate(shape):
        if axis in axes:
            if part == 2 and n != 1:
                return None
            part = max(part, 1) if n != 1 else part
            extents[1] *= n
        elif n != 1:
            part = 2 if part else 0
            extents[part] *= n
    return extents[0], extents[1], extents[2]


def _leading(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, int]:
    kept = math.prod(n for axis, n in enumerate(shape) if axis not in axes)
    return 1, math.prod(shape[axis] for axis in axes), kept


def _reduced_first(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    return axes + tuple(axis for axis in range(ndim) if axis not in axes)


def _moved(x: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    y = empty(tuple(x.shape[axis] for axis in order), x.dtype)
    np.copyto(y, x.transpose(order))
    return y
