"""Moving elements: nothing here rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .registers import store


def transpose(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return store(x.transpose(axes), x.dtype)


def broadcast_to(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return store(np.broadcast_to(x, shape), x.dtype)


def getitem(x: np.ndarray, index: Any) -> np.ndarray:
    return store(x[index], x.dtype)


def cat(xs: Sequence[np.ndarray], axis: int) -> np.ndarray:
    return store(np.concatenate(xs, axis), xs[0].dtype)


def pad2d(x: np.ndarray, pads: tuple[int, int, int, int]) -> np.ndarray:
    top, bottom, left, right = pads
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))


def crop2d(x: np.ndarray, pads: tuple[int, int, int, int]) -> np.ndarray:
    top, bottom, left, right = pads
    return store(x[:, top : x.shape[1] - bottom, left : x.shape[2] - right], x.dtype)
