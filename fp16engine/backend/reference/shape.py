"""Moving elements: nothing here rounds, but the sums of index_add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .registers import accumulator, load, store


def transpose(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return store(x.transpose(axes), x.dtype)


def broadcast_to(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return store(np.broadcast_to(x, shape), x.dtype)


def getitem(x: np.ndarray, index: Any) -> np.ndarray:
    return store(x[index], x.dtype)


def index_add(shape: tuple[int, ...], dtype: str, index: Any, dy: np.ndarray, acc: str) -> np.ndarray:
    partial = accumulator(dy, acc)
    out = np.zeros(shape, partial)
    # add.at is sequential; on binary16 it rounds after every addition.
    np.add.at(out, index, dy if partial == np.float16 else load(dy))
    return store(out, dtype)


def cat(xs: Sequence[np.ndarray], axis: int) -> np.ndarray:
    return store(np.concatenate(xs, axis), xs[0].dtype)


def pad2d(x: np.ndarray, pads: tuple[int, int, int, int]) -> np.ndarray:
    top, bottom, left, right = pads
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))


def crop2d(x: np.ndarray, pads: tuple[int, int, int, int]) -> np.ndarray:
    top, bottom, left, right = pads
    return store(x[:, top : x.shape[1] - bottom, left : x.shape[2] - right], x.dtype)
