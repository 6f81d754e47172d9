"""Where the blocks of a dot product's operands lie: along the terms that the product adds up.

An operand is viewed as matrices (outer, rows, columns) of its own memory; `axis` says which way its runs
go: 2 along a row, which is contiguous, 1 down a column. A product's own reduction decides, so the same
array is blocked differently for different products. Ends that do not fill a block are short blocks, as if
padded with zeros.

- Matrix product a (M, K) @ b (K, N): along K, on both sides.
- Convolution forward, reduction (kh, kw, c): weights along (kh, kw, c) of each output channel; images along
  (w, c) within each image row, which is how a window's row lies in memory.
- Its data gradient, reduction (kh, kw, k): weights along (kh, kw, k) of each input channel, so they come
  permuted; gradients along (ow, k) within each image row.
- Its weight gradient, reduction (n, oh, ow): images and gradients along the pixels (h, w) of one image,
  channel by channel.

With groups a product adds up the channels of one group only: images then have runs along a group's channels
within a pixel, or along w where a group has one channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..block_format import BlockFormat

Array = Any
Shape = tuple[int, ...]


class Blocks(NamedTuple):
    """A view (outer, rows, columns) of an array's memory, and the axis its runs go along, 1 or 2."""

    shape: tuple[int, int, int]
    axis: int


def matrix(shape: Shape, transposed: bool, left: bool) -> Blocks:
    """Return the blocks of a matrix as stored, (..., M, K) on the left of a product or (..., K, N) on the
    right."""
    return Blocks((math.prod(shape[:-2]), shape[-2], shape[-1]), 2 if left != transposed else 1)


def image_rows(shape: Shape, groups: int) -> Blocks:
    """Return the blocks of images (N, H, W, C) whose products add up channels and window positions."""
    n, height, width, channels = shape
    if groups == 1:
        return Blocks((n, height, width * channels), 2)
    if groups == channels:
        return Blocks((n * height, width, channels), 1)
    return Blocks((n, height * width * groups, channels // groups), 2)


def pixels(shape: Shape) -> Blocks:
    """Return the blocks of images (N, H, W, C) whose products add up pixels."""
    n, height, width, channels = shape
    return Blocks((n, height * width, channels), 1)


def kernels(shape: Shape) -> Blocks:
    """Return the blocks of weights (K, ...) whose products add up all that belongs to one output."""
    return Blocks((1, shape[0], math.prod(shape[1:])), 2)


def block_shape(blocks: Blocks, fmt: BlockFormat) -> tuple[int, int]:
    """Return the rows and columns of a whole block."""
    if fmt.tile:
        return math.isqrt(fmt.block), math.isqrt(fmt.block)
    return (fmt.block, 1) if blocks.axis == 1 else (1, fmt.block)


class Operands:
    """Rounds the arrays of one call to `fmt` as its products ask, in turn, each with random words of its own.

    quantize(x, blocks, fmt) and transpose(x, axes) are a backend's.
    """

    def __init__(
        self,
        fmt: BlockFormat,
        quantize: Callable[[Array, Blocks, BlockFormat], Array],
        transpose: Callable[[Array, tuple[int, ...]], Array],
    ) -> None:
        self.fmt, self.quantize, self.transpose = fmt, quantize, transpose

    def rounded(self, x: Array, blocks: Blocks) -> Array:
        """Return `x` rounded; the counter moves on by a quarter of its elements, rounded up."""
        y = self.quantize(x, blocks, self.fmt)
        if self.fmt.stochastic:
            seed, counter = self.fmt.draw
            self.fmt = self.fmt.drawing(seed, counter + -(-math.prod(x.shape) // 4))
        return y

    def of_matmul(self, a: Array, b: Array, transpose_a: bool, transpose_b: bool) -> tuple[Array, Array]:
        """Return both sides of a @ b, each as stored."""
        return (
            self.rounded(a, matrix(a.shape, transpose_a, left=True)),
            self.rounded(b, matrix(b.shape, transpose_b, left=False)),
        )

    def of_forward(self, x: Array, w: Array, groups: int) -> tuple[Array, Array]:
        """Return images and weights of a convolution."""
        return self.rounded(x, image_rows(x.shape, groups)), self.rounded(w, kernels(w.shape))

    def of_data_gradient(self, dy: Array, w: Array, groups: int) -> tuple[Array, Array]:
        """Return gradients and weights of a convolution's data gradient."""
        dy = self.rounded(dy, image_rows(dy.shape, groups))
        k, kh, kw, channels = w.shape
        split = w.reshape(groups, k // groups, kh, kw, channels)
        permuted = self.transpose(split, _BY_INPUT)  # (groups, C / groups, kh, kw, K / groups)
        rounded = self.rounded(permuted, kernels((groups * channels, kh, kw, k // groups)))
        return dy, self.transpose(rounded, _BY_INPUT).reshape(w.shape)

    def of_weight_gradient(self, x: Array, dy: Array) -> tuple[Array, Array]:
        """Return images and gradients of a convolution's weight gradient."""
        return self.rounded(x, pixels(x.shape)), self.rounded(dy, pixels(dy.shape))


_BY_INPUT = (0, 4, 2, 3, 1)  # its own inverse
