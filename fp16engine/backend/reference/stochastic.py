"""Random bits per element of a parameter, and rounding to one of the two neighbours by them."""

from __future__ import annotations

import numpy as np

from .random import philox

WEIGHT, FIRST, SECOND = 1, 2, 3  # streams of a parameter: the third word of the counter; dropout's is 0


def random_bits(seed: int, step: int, stream: int, index: int, size: int) -> np.ndarray:
    """Return `size` numbers in [0, 2^16), int64: see "Stochastic rounding" in backend/base.py."""
    groups = np.arange(-(-size // 8), dtype=np.uint64)
    rest = [np.full_like(groups, value) for value in (step, stream, index)]
    words = philox(np.stack([groups, *rest], -1), (seed & 0xFFFFFFFF, seed >> 32)).astype(np.int64)
    return np.stack([words & 0xFFFF, words >> 16], -1).reshape(-1)[:size]


def round_stochastic(x: np.ndarray, bits: np.ndarray | int) -> np.ndarray:
    """Return the float32 registers `x` as binary16 values, still in registers; `bits` one number each."""
    magnitude = np.abs(x)
    normal = (magnitude.view(np.uint32) + (np.asarray(bits) >> 3).astype(np.uint32)) & np.uint32(0xFFFFE000)
    small = magnitude < 2.0**-14
    units = (np.where(small, magnitude, 0).astype(np.float64) * 2.0**40).astype(np.int64)
    result = np.where(small, ((units + bits) >> 16) * 2.0**-24, normal.view(np.float32))
    nearest = magnitude.astype(np.float16).astype(np.float32)
    return np.copysign(np.where(magnitude < 65504, result, nearest), x).astype(np.float32)
