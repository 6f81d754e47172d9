"""Random bits per element of a parameter, and rounding to one of the two neighbours by them."""

from __future__ import annotations

import numpy as np

from ...floats import limits
from .random import philox

# streams of a parameter: the third word of the counter; dropout's is 0
WEIGHT, STATE = 1, 2


def random_bits(seed: int, step: int, stream: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two times `size` numbers in [0, 2^16), int64, an element's own half-word and its other one.

    See "Stochastic rounding" in backend/base.py.
    """
    groups = np.arange(-(-size // 8), dtype=np.uint64)
    rest = [np.full_like(groups, value) for value in (step, stream, index)]
    words = philox(np.stack([groups, *rest], -1), (seed & 0xFFFFFFFF, seed >> 32)).astype(np.int64)
    halves = np.stack([words & 0xFFFF, words >> 16], -1).reshape(-1)
    elements = np.arange(size)
    return halves[elements], halves[elements ^ 4]


def round_stochastic(x: np.ndarray, bits: np.ndarray | int, dtype: np.dtype) -> np.ndarray:
    """Return the float32 registers `x` as values of a 16-bit type, in registers; `bits`: one number each."""
    magnitude = np.abs(x)
    if dtype != np.float16:  # bfloat16 cuts off sixteen bits, below the smallest normal too
        cut = magnitude.view(np.uint32) + np.asarray(bits).astype(np.uint32) & np.uint32(0xFFFF0000)
        return _with_sign(cut.view(np.float32), magnitude, x, dtype)
    normal = (magnitude.view(np.uint32) + (np.asarray(bits) >> 3).astype(np.uint32)) & np.uint32(0xFFFFE000)
    small = magnitude < 2.0**-14
    units = (np.where(small, magnitude, 0).astype(np.float64) * 2.0**40).astype(np.int64)
    result = np.where(small, ((units + bits) >> 16) * 2.0**-24, normal.view(np.float32))
    return _with_sign(result, magnitude, x, dtype)


def subtract_stochastic(
    w: np.ndarray, change: np.ndarray, bits: np.ndarray | int, dtype: np.dtype
) -> np.ndarray:
    """Return the exact w - change as values of a 16-bit type; w: such values, `bits` in [0, 2^32).

    The way past the neighbour nearer to zero is an integer in units of 2^-32 of the neighbours' distance.
    """
    cut = 13 if dtype == np.float16 else 16  # bits of a float32 that the type does not have
    fine = 32 - cut
    w, change = np.asarray(w, np.float32), np.asarray(change, np.float32)
    with np.errstate(all="ignore"):
        s = w - change
        back = w - s
        error = (w - (s + back)) + (back - change)  # s + error is exact (Knuth's TwoSum)
        beyond = np.where(s < 0, -error, error)  # of the magnitude
        magnitude = np.abs(s).view(np.uint32).astype(np.int64)
        # the error in units of 2^-fine of the float32 gap it lies in; in float16 there is none below 2^-85
        exponent = np.maximum(magnitude - (beyond < 0) >> 23, 42 if dtype == np.float16 else 1)
        scaled = np.rint(np.ldexp(beyond.astype(np.float64), 150 + fine - exponent))
    tail = np.where(np.isfinite(scaled), scaled, 0).astype(np.int64)
    magnitude -= tail < 0
    tail += np.where(tail < 0, 1 << fine, 0)
    if dtype != np.float16:
        away = ((magnitude & 0xFFFF) << 16 | tail) + bits >> 32
        whole = ((magnitude >> 16) + away << 16).astype(np.uint32).view(np.float32)
        return _with_sign(whole, magnitude.astype(np.uint32).view(np.float32), s, dtype)
    exponent = magnitude >> 23
    # a float32's digits and the tail behind them, in units of 2^-32 of a normal binary16 number's gap
    digits = (magnitude & 0x7FFFFF) + np.where(exponent > 0, 1 << 23, 0)
    units = (digits << fine | tail) >> np.clip(113 - exponent, 0, 63)
    away = (units & 0xFFFFFFFF) + bits >> 32
    normal = ((magnitude >> cut) + away << cut).astype(np.uint32).view(np.float32)
    result = np.where(exponent < 113, ((units >> 32) + away) * 2.0**-24, normal)
    return _with_sign(result, magnitude.astype(np.uint32).view(np.float32), s, dtype)


def _with_sign(result: np.ndarray, magnitude: np.ndarray, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return `result`, from the largest number of the type on |x| rounded to nearest, with the sign of x."""
    with np.errstate(all="ignore"):
        nearest = np.abs(x).astype(dtype).astype(np.float32)
        finite = magnitude < np.float32(limits(dtype).max)
    return np.copysign(np.where(finite, result, nearest), x).astype(np.float32)
