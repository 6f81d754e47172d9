"""Every tolerance of the test suite, from the limits of each type; the tiers are those of the architecture.

exact, bit-equal   `same_bits`: equality, NaN equal to NaN whatever its payload, -0 different from +0
bounded            `zero_mean`, `any_inputs`: sums of unknown order against float64
relative           `relative`: composites against float64, next to a naive version of the same policy
rounded            `within_ulps`: a function of registers, rounded once, against float64
"""

from __future__ import annotations

import importlib.util

import numpy as np

from fp16engine import floats
from fp16engine.floats import limits

HAS_BFLOAT16 = importlib.util.find_spec("ml_dtypes") is not None
DTYPES = ("float16", *(["bfloat16"] if HAS_BFLOAT16 else []), "float32", "float64")

SIXTEEN_BIT = DTYPES[:-2]

EPS = {dtype: float(limits(dtype).eps) for dtype in DTYPES}
U = {dtype: EPS[dtype] / 2 for dtype in DTYPES}  # unit roundoff
MAX = {dtype: float(limits(dtype).max) for dtype in DTYPES}
TINY = {dtype: float(limits(dtype).tiny) for dtype in DTYPES}  # smallest normal
SMALLEST = {dtype: float(limits(dtype).smallest_subnormal) for dtype in DTYPES}
EXACT_INTEGERS = {dtype: int(2 / EPS[dtype]) for dtype in DTYPES}  # integers up to here are exact

# A function such as exp, rounded to a 16-bit type, may miss the nearest by one; its FP32 register may be
# wrong by a few units in the last place, which a float32 result shows.
ROUNDED_ULPS = {"float16": 1, "bfloat16": 1, "float32": 4}

# Central differences of step h err by h^2 (truncation) and EPS / h (rounding); h = EPS^(1/3) balances the
# two. The factor stands for the third derivative and for cancellation in sums of some hundred terms.
DIFFERENCE_STEP = EPS["float64"] ** (1 / 3)
DIFFERENCE_TOLERANCE = 100 * DIFFERENCE_STEP**2


def ulp(value: np.ndarray, dtype: str) -> np.ndarray:
    """Return the distance of neighbouring `dtype` numbers at |value|, subnormals included."""
    magnitude = np.clip(np.abs(value), TINY[dtype], MAX[dtype])
    return np.exp2(np.floor(np.log2(magnitude))) * EPS[dtype]


def every_finite(dtype: str) -> np.ndarray:
    """Return the finite values >= 0 of a 16-bit type, in order."""
    first_infinite = {"float16": 0x7C00, "bfloat16": 0x7F80}[dtype]
    return np.arange(first_infinite, dtype=np.uint16).view(floats.numpy_dtype(dtype))


def rounded(value: np.ndarray, dtype: str) -> np.ndarray:
    """Return the float64 `value` rounded to nearest even."""
    return floats.rounded(np.asarray(value), dtype)


def same_bits(got: np.ndarray, expected: np.ndarray) -> None:
    """Require the same shape, dtype and bits; any NaN equals any NaN."""
    assert got.dtype == expected.dtype, f"{got.dtype} instead of {expected.dtype}"
    assert got.shape == expected.shape, f"{got.shape} instead of {expected.shape}"
    if not floats.is_float(got.dtype):
        np.testing.assert_array_equal(got, expected)
        return
    bits = f"u{got.dtype.itemsize}"
    with np.errstate(invalid="ignore"):  # a signalling NaN
        canonical = [
            np.where(np.isnan(a), np.asarray(np.nan, a.dtype), a).view(bits) for a in (got, expected)
        ]
    different = canonical[0] != canonical[1]
    if different.any():
        place = tuple(int(i[0]) for i in np.nonzero(different)) if got.ndim else ()
        raise AssertionError(
            f"{different.sum()} of {got.size} elements differ, first at {place}: "
            f"{got[place]!r} instead of {expected[place]!r}"
        )


def zero_mean(squares: np.ndarray, terms: np.ndarray | float, acc: str) -> np.ndarray:
    """Return 4 u sqrt(sum of s^2 + p^2) for products p of random sign and partial sums s of `terms` of them.

    `squares` is the sum of p^2. The partial sums depend on an unknown order; in any order the expected sum of
    s^2 is squares * (terms + 1) / 2. Every product may also underflow, by half the smallest number.
    """
    count = np.asarray(terms)
    return 4 * U[acc] * np.sqrt(squares * ((count + 1) / 2 + 1)) + count * SMALLEST[acc] / 2


def any_inputs(magnitudes: np.ndarray, terms: np.ndarray | float, acc: str) -> np.ndarray:
    """Return u (sum of |s| + |p|) with `magnitudes` the sum of |p|, the largest |s| there is in any order."""
    count = np.asarray(terms)
    return U[acc] * magnitudes * (count + 1) + count * SMALLEST[acc] / 2


def frequency(share: float, draws: int) -> float:
    """Return five standard deviations of the share of `draws` that have a property of probability `share`."""
    return 5 * float(np.sqrt(share * (1 - share) / draws))


def blocked(magnitude: float, terms: int) -> float:
    """Return the worst error of a binary16 sum in the documented order: 32 steps, then a tree, rounded each
    time."""
    block = 32
    depth = block + int(np.ceil(np.log2(max(1, terms / block)))) + 1
    return U["float16"] * depth * magnitude


def bounded(got: np.ndarray, exact: np.ndarray, accumulated: np.ndarray, dtype: str) -> None:
    """Require |got - exact| <= accumulated + ulp / 2; inf only where the bound reaches the largest number."""
    assert got.dtype == dtype, f"{got.dtype} instead of {dtype}"
    assert got.shape == exact.shape, f"{got.shape} instead of {exact.shape}"
    with np.errstate(all="ignore"):
        allowed = accumulated + ulp(np.abs(exact) + accumulated, dtype) / 2
        error = np.abs(got.astype(np.float64) - exact)
        overflow = np.isinf(got) & (np.sign(got) == np.sign(exact)) & (np.abs(exact) + allowed >= MAX[dtype])
        undefined = np.isnan(exact) & np.isnan(got)
        infinite = np.isinf(exact) & (got == exact)
    _require(overflow | undefined | infinite | (error <= allowed), got, exact, allowed)


def within_ulps(got: np.ndarray, exact: np.ndarray, ulps: float, dtype: str) -> None:
    """Require `got` within `ulps` units in the last place of the correctly rounded `exact`."""
    assert got.dtype == dtype, f"{got.dtype} instead of {dtype}"
    assert got.shape == exact.shape, f"{got.shape} instead of {exact.shape}"
    nearest = rounded(exact, dtype)
    with np.errstate(all="ignore"):
        allowed = ulps * ulp(exact, dtype)
        same = (got == nearest) | (np.isnan(got) & np.isnan(nearest))
        near = np.abs(got.astype(np.float64) - nearest) <= allowed
        edge = np.isinf(got) & (np.sign(got) == np.sign(exact)) & (np.abs(exact) + allowed >= MAX[dtype])
    _require(same | near | edge, got, exact, allowed)


def relative(got: np.ndarray, naive: np.ndarray, exact: np.ndarray, dtype: str) -> None:
    """Require an error against `exact` of at most twice the naive version's largest error, plus 2 ulp."""
    assert got.dtype == dtype, f"{got.dtype} instead of {dtype}"
    assert got.shape == exact.shape, f"{got.shape} instead of {exact.shape}"
    with np.errstate(all="ignore"):
        worst = np.max(np.abs(naive.astype(np.float64) - exact), initial=0.0, where=np.isfinite(naive))
        allowed = 2 * worst + 2 * ulp(exact, dtype)
        error = np.abs(got.astype(np.float64) - exact)
        same = (got == naive) | (np.isnan(got) & np.isnan(naive))
    _require(same | (error <= allowed), got, exact, allowed)


def _require(fine: np.ndarray, got: np.ndarray, exact: np.ndarray, allowed: np.ndarray) -> None:
    if not np.all(fine):
        place = tuple(int(i[0]) for i in np.nonzero(~fine)) if got.ndim else ()
        bound = np.broadcast_to(allowed, exact.shape)[place]
        raise AssertionError(
            f"{np.sum(~fine)} of {got.size} elements out of bounds, first at {place}: "
            f"{got[place]!r}, float64 {exact[place]!r}, allowed {bound!r}"
        )


def inverse_std(exact: np.ndarray, terms: int, acc: str) -> np.ndarray:
    """Return the error of 1 / sqrt(var + eps): half that of the variance's sum, and one rounding a step."""
    return exact * U[acc] * ((terms + 1) / 2 + 4)
