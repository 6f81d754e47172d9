"""Random flips, shifts, rotations and brightness of images, from Philox words of (seed, sample, epoch)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .random import philox
from .registers import load, store

_STREAM = 0x61756700  # "aug": the counter's last word; dropout's is 0
_LOW = 0xFFFFFFFF
_SINE = [np.float32((-1) ** i / math.factorial(2 * i + 1)) for i in range(9)]
_COSINE = [np.float32((-1) ** i / math.factorial(2 * i)) for i in range(10)]


def augment(
    data: np.ndarray,
    index: np.ndarray,
    seed: int,
    epoch: Any,
    flip_lr: bool,
    flip_ud: bool,
    rotation: float,
    shift: int,
    brightness: float,
    low: float,
    high: float,
    fill: float | None,
    alternating: bool = False,
) -> np.ndarray:
    height, width = data.shape[1:3]
    words = _words(index, seed, int(epoch))
    down, across = (_integer(words[:, i], shift) for i in (4, 5))
    flips = words[:, :2] >= np.uint64(2**31)
    if alternating:
        first = _words(index, seed, 0)[:, 0] >= np.uint64(2**31)
        flips[:, 0] = first ^ bool(int(epoch) & 1)
    r, c = np.arange(height)[None], np.arange(width)[None]
    r = np.where(flips[:, 1:] & flip_ud, height - 1 - r, r) + down[:, None]
    c = np.where(flips[:, :1] & flip_lr, width - 1 - c, c) + across[:, None]
    r, c = r[:, :, None], c[:, None]  # (B, H, 1), (B, 1, W)
    images = load(data[index])

    def pixel(r: np.ndarray, c: np.ndarray) -> np.ndarray:
        value = images[np.arange(len(index))[:, None, None], _mirrored(r, height), _mirrored(c, width)]
        inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        return value if fill is None else np.where(inside[..., None], value, images.dtype.type(fill))

    if rotation == 0:
        value = pixel(*np.broadcast_arrays(r, c))
    else:
        y, x = _rotated(r, c, np.float32(rotation) * _signed(words[:, 2]), height, width)
        top, left = np.floor(y), np.floor(x)
        below, across = ((a - b)[..., None].astype(images.dtype) for a, b in ((y, top), (x, left)))
        r, c = top.astype(np.int64), left.astype(np.int64)
        upper = _between(pixel(r, c), pixel(r, c + 1), across)
        lower = _between(pixel(r + 1, c), pixel(r + 1, c + 1), across)
        value = _between(upper, lower, below)
    if brightness != 0:
        change = np.float32(brightness) * _signed(words[:, 3])
        value = value + change[:, None, None, None]
        least, most = (value.dtype.type(np.float32(bound)) for bound in (low, high))
        value = np.where(value < least, least, np.where(value > most, most, value))
    return store(value, data.dtype)


def _words(index: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return uint64 (B, 8): the words of both counters of every sample."""
    counter = np.zeros((len(index), 2, 4), np.uint64)
    ids = index.astype(np.uint64)[:, None]
    counter[..., 0], counter[..., 1] = ids & np.uint64(_LOW), ids >> np.uint64(32)
    counter[..., 2] = epoch & _LOW
    counter[..., 3] = _STREAM + np.arange(2)
    key = (seed & _LOW, (seed >> 32) & _LOW)
    return philox(counter, key).reshape(len(index), 8).astype(np.uint64)


def _signed(words: np.ndarray) -> np.ndarray:
    return ((2 * (words >> np.uint64(8)).astype(np.int64) + 1 - 2**24) * 2.0**-24).astype(np.float32)


def _integer(words: np.ndarray, most: int) -> np.ndarray:
    return (words * np.uint64(2 * most + 1) >> np.uint64(32)).astype(np.int64) - most


def _rotated(
    r: np.ndarray, c: np.ndarray, angle: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    angle = angle[:, None, None]
    square = angle * angle
    sine, cosine = _polynomial(_SINE, square) * angle, _polynomial(_COSINE, square)
    middle, centre = np.float32(0.5 * (height - 1)), np.float32(0.5 * (width - 1))
    u, v = r.astype(np.float32) - middle, c.astype(np.float32) - centre
    return (cosine * u + sine * v) + middle, (cosine * v - sine * u) + centre


def _polynomial(terms: list[np.float32], square: np.ndarray) -> np.ndarray:
    result = np.full_like(square, terms[-1])
    for term in reversed(terms[:-1]):
        result = term + square * result
    return result


def _mirrored(i: np.ndarray, n: int) -> np.ndarray:
    i = np.where(i < 0, -1 - i, i)
    i = np.where(i >= n, 2 * n - 1 - i, i)
    return np.clip(i, 0, n - 1)


def _between(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.asarray(a + (b - a) * share)
