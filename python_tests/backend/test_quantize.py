"""Block floating point, value by value, against the definition in exact fractions."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import bounds
import numpy as np
import pytest

from fp16engine.backend.blocks import Blocks
from fp16engine.block_format import BlockFormat
from fp16engine.errors import UnsupportedPrecision


def _exponent(block: Iterable[float], lowest: int, highest: int) -> int:
    """The smallest e with max|x| <= 2^e, by trying; kept within the range."""
    largest = max(abs(Fraction(x)) for x in block)
    e = lowest
    while e < highest and largest > Fraction(2) ** e:
        e += 1
    return e


def _nearest(x: float, e: int, m: int) -> float:
    """The nearest of the 2^m magnitudes there are, the even one of two equally near."""
    step = Fraction(2) ** (e - m)
    quotient = abs(Fraction(x)) / step
    below = quotient.numerator // quotient.denominator
    distance = quotient - below
    up = distance > Fraction(1, 2) or (distance == Fraction(1, 2) and below % 2 == 1)
    magnitude = min(below + up, 2**m - 1) * step
    return float(np.copysign(float(magnitude), x))


def _by_definition(x: np.ndarray, m: int, lowest: int = -512, highest: int = 511) -> np.ndarray:
    """Rows of `x` as blocks of their own."""
    limits = max(lowest, m - 149), min(highest, 128)
    return np.array([_block(tuple(row), m, *limits) for row in x.tolist()], np.float32)


@functools.cache  # every backend asks for the same ones
def _block(row: tuple[float, ...], m: int, lowest: int, highest: int) -> list[float]:
    e = _exponent(row, lowest, highest)
    return [_nearest(value, e, m) for value in row]


def _rounded(backend: Any, x: np.ndarray, name: str) -> np.ndarray:
    blocks = Blocks((1, *x.shape), 2)
    y = backend.quantize(backend.from_numpy(x), blocks, BlockFormat.named(name))
    return np.asarray(backend.to_numpy(y))


def _candidates(m: int) -> np.ndarray:
    """Every magnitude in steps, every tie, their float32 neighbours, and values beyond the largest; both
    signs."""
    halves = np.arange(0, 2 ** (m + 1) + 1, dtype=np.float32) / 2
    near = [halves, np.nextafter(halves, np.float32(0)), np.nextafter(halves, np.float32(np.inf))]
    values = np.unique(np.concatenate(near))
    values = values[values <= 2**m]
    return np.concatenate([values, -values])


@pytest.mark.slow
@pytest.mark.parametrize("m", range(2, 9))
def test_every_representable_value_and_every_tie(backend: Any, m: int) -> None:
    """All of them at the exponents of FP32: smallest normal, around one, largest."""
    anchors = np.array([2.0**m, 2.0**m - 1, 2.0 ** (m - 1) + 0.25], np.float32)
    values = _candidates(m)
    for exponent, anchor in itertools.product((-120, 0, 1, 127), anchors):
        inside = values[np.abs(values) <= anchor]
        padded = np.resize(inside, (-(-len(inside) // 63), 63))
        steps = np.concatenate([np.full((len(padded), 1), anchor), padded], 1).astype(np.float32)
        x = np.ldexp(steps, exponent - m)
        bounds.same_bits(_rounded(backend, x, f"hbfp{m}"), _by_definition(x, m))


@pytest.mark.parametrize("m", [2, 5, 8, 11, 16])
def test_random_blocks_of_all_sizes(backend: Any, m: int) -> None:
    rng = np.random.default_rng(m)
    x = rng.standard_normal((12, 33)) * np.exp2(rng.integers(-152, 127, (12, 1)))
    x = (x * np.exp2(-rng.integers(0, 20, x.shape))).astype(np.float32)
    bounds.same_bits(_rounded(backend, x, f"hbfp{m}-b33"), _by_definition(x, m))


def test_ragged_blocks_are_blocks_of_their_own(backend: Any) -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((3, 50)) * np.exp2(rng.integers(-9, 9, (3, 50)))).astype(np.float32)
    parts = [_by_definition(x[:, start : start + 16], 4) for start in range(0, 50, 16)]
    bounds.same_bits(_rounded(backend, x, "hbfp4-b16"), np.concatenate(parts, 1))


def test_zeros_subnormals_and_the_ends(backend: Any) -> None:
    smallest, largest = bounds.SMALLEST["float32"], bounds.MAX["float32"]
    x = np.array(
        [
            [0.0, -0.0, 0.0, -0.0],
            [smallest, -smallest, 3 * smallest, 0.0],
            [1000 * smallest, 999 * smallest, -smallest, smallest],
            [largest, -largest, 1.0, -(2.0**120)],
            [1.0, smallest, -smallest, -0.0],
            [bounds.TINY["float32"], smallest, -bounds.TINY["float32"] / 2, 0.0],
        ],
        np.float32,
    )
    for m in (2, 4, 8, 16):
        got = _rounded(backend, x, f"hbfp{m}")
        bounds.same_bits(got, _by_definition(x, m))
        assert np.all(np.signbit(got) == np.signbit(x))


@pytest.mark.parametrize(
    ("bits", "lowest", "highest"), [(2, -2, 1), (3, -4, 3), (5, -16, 15), (8, -128, 127)]
)
def test_few_exponent_bits_saturate(backend: Any, bits: int, lowest: int, highest: int) -> None:
    x = np.ldexp(np.linspace(-1, 1, 21), np.arange(lowest - 4, highest + 5)[:, None])
    x = np.clip(x, -bounds.MAX["float32"], bounds.MAX["float32"]).astype(np.float32)
    got = _rounded(backend, x, f"hbfp4-e{bits}")
    bounds.same_bits(got, _by_definition(x, 4, lowest, highest))
    assert np.abs(got).max() <= 2.0**highest * (1 - 2.0**-4)


def test_what_is_not_finite_stays_and_decides_nothing(backend: Any) -> None:
    x = np.array([[1.0, np.inf, 0.3, -np.inf, np.nan, -0.2]], np.float32)
    got = _rounded(backend, x, "hbfp4")
    finite = np.isfinite(x)
    np.testing.assert_array_equal(got[~finite], x[~finite])
    bounds.same_bits(got[finite], _by_definition(x[finite][None], 4)[0])


def test_tiles_share_one_exponent(backend: Any) -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((7, 10)) * np.exp2(rng.integers(-9, 9, (7, 10)))).astype(np.float32)
    got = _rounded(backend, x, "hbfp4-t4")
    for row, column in itertools.product((0, 4), (0, 4, 8)):
        tile = x[row : row + 4, column : column + 4]
        expected = _by_definition(tile.reshape(1, -1), 4).reshape(tile.shape)
        bounds.same_bits(got[row : row + 4, column : column + 4].copy(), expected)


def test_stochastic_rounding_is_replayable_and_fair(backend: Any) -> None:
    """One of the two neighbours, the upper one as often as the fraction says, the same for the same draw."""
    m, count = 4, 40_000
    x = np.concatenate([[16.0], np.full(count - 1, 5.3, np.float32)]).astype(np.float32)[None]
    fmt = BlockFormat.named("hbfp4-b1-sr")
    blocks = Blocks((1, count, 1), 2)  # blocks of one value: e = 3, step 1/2
    first = [
        np.asarray(backend.to_numpy(backend.quantize(backend.from_numpy(x), blocks, f)))
        for f in (fmt.drawing(3, 5), fmt.drawing(3, 5), fmt.drawing(3, 6), fmt.drawing(4, 5))
    ]
    bounds.same_bits(first[0], first[1])
    assert (first[0] != first[2]).any() and (first[0] != first[3]).any()
    values = first[0][0, 1:]
    step = 2.0 ** (3 - m)
    assert set(values.tolist()) == {10 * step, 11 * step}
    share = (values == 11 * step).mean()
    fraction = 5.3 / step - 10
    assert abs(share - fraction) < 5 * np.sqrt(fraction * (1 - fraction) / count)


def test_stochastic_rounding_keeps_what_is_representable(backend: Any) -> None:
    x = np.arange(-15, 16, dtype=np.float32)[None]
    fmt = BlockFormat.named("hbfp4-sr").drawing(1, 2)
    got = backend.to_numpy(backend.quantize(backend.from_numpy(x), Blocks((1, *x.shape), 2), fmt))
    bounds.same_bits(np.asarray(got), x)


def test_float32_only(backend: Any) -> None:
    x = backend.zeros((1, 4), "float16")
    with pytest.raises(UnsupportedPrecision, match=r"quantize: x must .* got float16"):
        backend.quantize(x, Blocks((1, 1, 4), 2), BlockFormat(4))
