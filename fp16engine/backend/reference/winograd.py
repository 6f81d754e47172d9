"""Winograd's convolution (Lavin and Gray, 1509.09308) for 3x3 kernels at stride 1, step by step.

A tile of M x M outputs is found from P x P inputs, P = M + 2, at P x P points, where a convolution is a
product: y = A^T [sum over c of (G w G^T) * (B^T x B)] A. Every fused multiply-add and the order along c are
part of the definition: the CPU gives the same bits. The order of the tiles in a weight gradient is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from .registers import load, store
from .windows import Pads

Transform: TypeAlias = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def fused(a: np.ndarray | float, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return fl(a * b + c), rounded once, in the dtype of `b`; float64 rounds twice.

    The product of float32 numbers is exact in float64; the sum is rounded to odd there (53 >= 24 + 2 bits),
    so that the second rounding is the only one that counts.
    """
    if b.dtype == np.float64:
        return np.asarray(a * b + c)
    with np.errstate(all="ignore"):
        product, addend = np.float64(a) * b.astype(np.float64), c.astype(np.float64)
        total = np.asarray(product + addend)
        part = total - product
        error = (product - (total - part)) + (addend - part)
        inexact_even = (error != 0) & ~np.isnan(error) & (total.view(np.int64) & 1 == 0)
        step = np.where((error > 0) == (total > 0), 1, -1)
        return (total.view(np.int64) + np.where(inexact_even, step, 0)).view(np.float64).astype(np.float32)


class Filter(NamedTuple):
    """F(M x M, 3 x 3): the five transforms along one axis."""

    outputs: int
    image: Transform  # B^T
    result: Transform  # A^T
    weights: Transform  # G
    gradient: Transform  # A
    weight_gradient: Transform  # G^T

    @property
    def points(self) -> int:
        """Return the points along one axis."""
        return self.outputs + 2

    def tiles(self, height: int, width: int) -> tuple[int, int]:
        """Return how many tiles cover an image, down and across."""
        return -(-height // self.outputs), -(-width // self.outputs)


def _two_outputs() -> Filter:
    """At the points 0, 1, -1 and infinity."""

    def weights(w: Sequence[np.ndarray]) -> list[np.ndarray]:
        half = w[0].dtype.type(0.5)
        even, odd = (w[0] + w[2]) * half, w[1] * half
        return [w[0], even + odd, even - odd, w[2]]

    def weight_gradient(u: Sequence[np.ndarray]) -> list[np.ndarray]:
        half = u[0].dtype.type(0.5)
        total = (u[1] + u[2]) * half
        return [u[0] + total, (u[1] - u[2]) * half, total + u[3]]

    return Filter(
        2,
        lambda x: [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[3] - x[1]],
        lambda m: [m[0] + m[1] + m[2], m[1] - m[2] + m[3]],
        weights,
        lambda dy: [dy[0], dy[0] + dy[1], dy[0] - dy[1], dy[1]],
        weight_gradient,
    )


def _four_outputs() -> Filter:
    """At the points 0, 3/4, -3/4, 3/2, -3/2 and infinity."""
    a, b = 0.75, 1.5
    a2, b2, a3, b3 = a**2, b**2, a**3, b**3
    at_0, at_a, at_b = 1 / (a2 * b2), 1 / (2 * a2 * (a2 - b2)), 1 / (2 * b2 * (b2 - a2))

    def scaled(x: np.ndarray, factor: float) -> np.ndarray:
        return x * x.dtype.type(factor)

    def fma(factor: float, x: np.ndarray, addend: np.ndarray) -> np.ndarray:
        return fused(x.dtype.type(factor), x, addend)

    def image(x: Sequence[np.ndarray]) -> list[np.ndarray]:
        even_a, odd_a = fma(-b2, x[2], x[4]), fma(-b2, x[1], x[3])
        even_b, odd_b = fma(-a2, x[2], x[4]), fma(-a2, x[1], x[3])
        return [
            fma(a2 * b2, x[0], fma(-a2 - b2, x[2], x[4])),
            fma(a, odd_a, even_a),
            fma(-a, odd_a, even_a),
            fma(b, odd_b, even_b),
            fma(-b, odd_b, even_b),
            fma(a2 * b2, x[1], fma(-a2 - b2, x[3], x[5])),
        ]

    def result(m: Sequence[np.ndarray]) -> list[np.ndarray]:
        even_a, odd_a, even_b, odd_b = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
        return [
            m[0] + even_a + even_b,
            fma(a, odd_a, scaled(odd_b, b)),
            fma(a2, even_a, scaled(even_b, b2)),
            fma(a3, odd_a, fma(b3, odd_b, m[5])),
        ]

    def weights(w: Sequence[np.ndarray]) -> list[np.ndarray]:
        even_a, even_b = fma(a2, w[2], w[0]), fma(b2, w[2], w[0])
        return [
            scaled(w[0], at_0),
            scaled(fma(a, w[1], even_a), at_a),
            scaled(fma(-a, w[1], even_a), at_a),
            scaled(fma(b, w[1], even_b), at_b),
            scaled(fma(-b, w[1], even_b), at_b),
            w[2],
        ]

    def gradient(dy: Sequence[np.ndarray]) -> list[np.ndarray]:
        even_a, odd_a = fma(a2, dy[2], dy[0]), fma(a3, dy[3], scaled(dy[1], a))
        even_b, odd_b = fma(b2, dy[2], dy[0]), fma(b3, dy[3], scaled(dy[1], b))
        return [dy[0], even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, dy[3]]

    def weight_gradient(u: Sequence[np.ndarray]) -> list[np.ndarray]:
        even_a, odd_a = scaled(u[1] + u[2], at_a), scaled(u[1] - u[2], at_a)
        even_b, odd_b = scaled(u[3] + u[4], at_b), scaled(u[3] - u[4], at_b)
        return [
            fma(at_0, u[0], even_a + even_b),
            fma(a, odd_a, scaled(odd_b, b)),
            fma(a2, even_a, fma(b2, even_b, u[5])),
        ]

    return Filter(4, image, result, weights, gradient, weight_gradient)


TWO, FOUR = _two_outputs(), _four_outputs()


def filter_for(height: int, width: int) -> Filter:
    """Return the filter for an image of outputs: M = 2 where it needs no more products than M = 4."""
    products = [f.points**2 * np.prod(f.tiles(height, width)) for f in (TWO, FOUR)]
    return TWO if products[0] <= products[1] else FOUR


def both(transform: Transform, x: np.ndarray) -> np.ndarray:
    """Apply a transform along the first axis, then along the second."""
    half_way = np.stack(transform(list(x))).swapaxes(0, 1)
    return np.stack(transform(list(half_way))).swapaxes(0, 1)


def _tiles_of(
    x: np.ndarray, first: tuple[int, int], f: Filter, tiles: tuple[int, int], size: int
) -> np.ndarray:
    """Return (size, size, N * tiles, C): windows M apart from the pixel `first` on, zeros outside."""
    n, height, width, channels = x.shape
    before = [max(0, -start) for start in first]
    spans = [(count - 1) * f.outputs + size for count in tiles]
    after = [
        max(0, start + span - extent)
        for start, span, extent in zip(first, spans, (height, width), strict=True)
    ]
    padded = np.pad(x, ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0)))
    y, z = (start + pad for start, pad in zip(first, before, strict=True))
    seen = np.lib.stride_tricks.sliding_window_view(
        padded[:, y : y + spans[0], z : z + spans[1]], (size, size), (1, 2)
    )[:, :: f.outputs, :: f.outputs]  # (N, down, across, C, size, size)
    return load(seen.transpose(4, 5, 0, 1, 2, 3).reshape(size, size, n * tiles[0] * tiles[1], channels))


def forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, pads: Pads) -> np.ndarray:
    """Return y (N, OH, OW, K), the bias added before the store."""
    height, width = (x.shape[1] + pads[0] + pads[1] - 2, x.shape[2] + pads[2] + pads[3] - 2)
    return _convolve(x, w, b, (-pads[0], -pads[2]), (height, width))


def data_gradient(shape: tuple[int, ...], w: np.ndarray, dy: np.ndarray, pads: Pads) -> np.ndarray:
    """Return dx: the convolution of dy with the mirrored weights."""
    mirrored = w[:, ::-1, ::-1].transpose(3, 1, 2, 0)
    return _convolve(dy, mirrored, None, (pads[0] - 2, pads[2] - 2), (shape[1], shape[2]))


def _convolve(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, first: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    f = filter_for(*size)
    down, across = f.tiles(*size)
    v = both(f.image, _tiles_of(x, first, f, (down, across), f.points))
    u = both(f.weights, load(w).transpose(1, 2, 3, 0))
    sums = np.zeros((*v.shape[:3], w.shape[0]), v.dtype)
    for c in range(x.shape[3]):
        sums = fused(v[..., c, None], u[:, :, None, c], sums)
    tiles = both(f.result, sums).reshape(f.outputs, f.outputs, x.shape[0], down, across, w.shape[0])
    y = tiles.transpose(2, 3, 0, 4, 1, 5).reshape(
        x.shape[0], down * f.outputs, across * f.outputs, w.shape[0]
    )[:, : size[0], : size[1]]
    return store(y if b is None else y + load(b), x.dtype)


def weight_gradient(x: np.ndarray, dy: np.ndarray, pads: Pads) -> np.ndarray:
    """Return dw (K, 3, 3, C), the tiles taken in ascending order."""
    size = dy.shape[1:3]
    f = filter_for(*size)
    tiles = f.tiles(*size)
    v = both(f.image, _tiles_of(x, (-pads[0], -pads[2]), f, tiles, f.points))
    m = both(f.gradient, _tiles_of(dy, (0, 0), f, tiles, f.outputs))
    sums = np.zeros((f.points, f.points, dy.shape[3], x.shape[3]), v.dtype)
    for tile in range(v.shape[2]):
        sums = fused(m[:, :, tile, :, None], v[:, :, tile, None], sums)
    return store(both(f.weight_gradient, sums).transpose(2, 0, 1, 3), x.dtype)
