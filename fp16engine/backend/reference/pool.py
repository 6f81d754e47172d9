"""Maximum and average pooling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .registers import accumulator, load, store
from .sums import rounded, total
from .windows import Pads, Pair, output_size, patches, reached

NO_SLOT = 255  # the slot in a window without a pixel


def max_pool_forward(x: np.ndarray, size: Pair, stride: Pair, pads: Pads) -> tuple[np.ndarray, np.ndarray]:
    n, height, width, channels = x.shape
    shape = (n, *output_size(height, width, size, stride, pads), channels)
    y, index = np.zeros(shape, x.dtype), np.full(shape, NO_SLOT, np.uint8)
    for kh in range(size[0]):
        rows, ys = reached(height, shape[1], kh, stride[0], pads[0])
        for kw in range(size[1]):
            columns, xs = reached(width, shape[2], kw, stride[1], pads[2])
            best, slot = y[:, rows, columns], index[:, rows, columns]
            value = x[:, ys, xs]
            wins = (slot == NO_SLOT) | (value > best) | (np.isnan(value) & ~np.isnan(best))
            best[wins], slot[wins] = value[wins], kh * size[1] + kw
    return y, index


def max_pool_backward(
    index: np.ndarray,
    dy: np.ndarray,
    x_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    pads: Pads,
    acc: str,
) -> np.ndarray:
    partial = accumulator(dy, acc)
    r = load(dy)
    zero = r.dtype.type(0)

    def terms(kh: int, kw: int) -> np.ndarray:
        return np.where(index == kh * size[1] + kw, r, zero)

    return store(_scattered(terms, r, x_shape, size, stride, pads, partial), dy.dtype)


def avg_pool_forward(x: np.ndarray, size: Pair, stride: Pair, pads: Pads, acc: str) -> np.ndarray:
    sums = total(patches(load(x), size, stride, pads), (3, 4), accumulator(x, acc))
    return store(sums / _counts(x.shape, size, stride, pads, sums.dtype), x.dtype)


def avg_pool_backward(
    dy: np.ndarray, x_shape: tuple[int, ...], size: Pair, stride: Pair, pads: Pads, acc: str
) -> np.ndarray:
    partial = accumulator(dy, acc)
    r = load(dy)
    share = r / _counts(x_shape, size, stride, pads, r.dtype)
    return store(_scattered(lambda kh, kw: share, share, x_shape, size, stride, pads, partial), dy.dtype)


def _counts(shape: tuple[int, ...], size: Pair, stride: Pair, pads: Pads, dtype: np.dtype) -> np.ndarray:
    """Return (1, OH, OW, 1): how many pixels of each window lie inside the image."""
    inside = np.ones((1, shape[1], shape[2], 1), dtype)
    return np.asarray(patches(inside, size, stride, pads).sum((3, 4)))


def _scattered(
    terms: Callable[[int, int], np.ndarray],
    like: np.ndarray,
    x_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    pads: Pads,
    partial: np.dtype,
) -> np.ndarray:
    """Add terms(kh, kw), shaped as `like`, to the pixels they came from, per pixel in the order (oh, ow)."""
    dx = np.zeros(x_shape, like.dtype)
    # The windows over one pixel come in rising (oh, ow) when the taps fall.
    for kh in reversed(range(size[0])):
        rows, ys = reached(x_shape[1], like.shape[1], kh, stride[0], pads[0])
        for kw in reversed(range(size[1])):
            columns, xs = reached(x_shape[2], like.shape[2], kw, stride[1], pads[2])
            dx[:, ys, xs] = rounded(dx[:, ys, xs] + terms(kh, kw)[:, rows, columns], partial)
    return dx
