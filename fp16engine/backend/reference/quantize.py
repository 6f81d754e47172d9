"""Rounding to block floating point."""

from __future__ import annotations

import numpy as np

from ...block_format import BlockFormat
from ...errors import UnsupportedPrecision
from ..blocks import Blocks, Operands, block_shape
from .random import words
from .shape import transpose


def quantize(x: np.ndarray, blocks: Blocks, fmt: BlockFormat) -> np.ndarray:
    if x.dtype != np.float32:
        raise UnsupportedPrecision(f"quantize: x must be float32 for a block format, got {x.dtype}")
    outer, rows, columns = blocks.shape
    height, width = block_shape(blocks, fmt)
    padded = (outer, -(-rows // height), height, -(-columns // width), width)
    values = np.zeros((outer, padded[1] * height, padded[3] * width), np.float64)
    finite = np.isfinite(x).reshape(blocks.shape)
    values[:, :rows, :columns] = np.where(finite, np.abs(x).reshape(blocks.shape), 0)
    tiles = values.reshape(padded)

    lowest, highest = fmt.exponents
    fraction, exponent = np.frexp(tiles.max(axis=(2, 4), keepdims=True))  # 0.5 <= fraction < 1
    e = np.clip(exponent - (fraction == 0.5), lowest, highest)
    e = np.where(fraction == 0, lowest, e)
    # In float64 all of this is exact: the scaling, the floor, the fraction and the scaling back.
    scaled = np.minimum(np.ldexp(tiles, fmt.mantissa - e), 2.0**fmt.mantissa - 1)
    integers = np.rint(scaled) if not fmt.stochastic else _stochastic(scaled, blocks, fmt)
    y = np.ldexp(integers, e - fmt.mantissa).reshape(values.shape)[:, :rows, :columns].reshape(x.shape)
    return np.where(np.isfinite(x), np.copysign(y, x), x).astype(np.float32)


def _stochastic(scaled: np.ndarray, blocks: Blocks, fmt: BlockFormat) -> np.ndarray:
    """Round up where the fraction is above (2 * (word >> 9) + 1) * 2^-24, in the C order of the array."""
    outer, rows, columns = blocks.shape
    seed, counter = fmt.draw
    thresholds = np.ones((outer, scaled.shape[1] * scaled.shape[2], scaled.shape[3] * scaled.shape[4]))
    drawn = words(outer * rows * columns, seed, counter)
    thresholds[:, :rows, :columns] = ((2 * (drawn >> 9) + 1) * 2.0**-24).reshape(blocks.shape)
    floor = np.floor(scaled)
    # The fraction of a value that FP32 cannot hold next to its integer part is below every threshold.
    return floor + (thresholds.reshape(scaled.shape) < scaled - floor)


def operands(fmt: BlockFormat) -> Operands:
    """Return what rounds the operands of one call."""
    return Operands(fmt, quantize, transpose)
