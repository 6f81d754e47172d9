"""Functions of one half, on all 65 536 of them; rounding to 16-bit types, at and around every tie."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest

from fp16engine.floats import numpy_dtype

HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)


@pytest.mark.parametrize("op", ["relu", "relu6", "neg", "sqrt"])
def test_exact_functions(compiled: Any, reference: Any, op: str) -> None:
    expected = reference.unary(op, HALVES)
    bounds.same_bits(np.array(compiled.to_numpy(compiled.unary(op, compiled.from_numpy(HALVES)))), expected)


@pytest.mark.parametrize("op", ["gelu", "tanh", "exp", "log"])
def test_rounded_functions(backend: Any, reference: Any, op: str) -> None:
    exact = reference.unary(op, HALVES.astype(np.float64))
    got = np.array(backend.to_numpy(backend.unary(op, backend.from_numpy(HALVES))))
    bounds.within_ulps(got, exact, bounds.ROUNDED_ULPS["float16"], "float16")


def test_gelu_gradient(backend: Any, reference: Any) -> None:
    ones = np.ones_like(HALVES)
    exact = reference.unary_backward("gelu", HALVES.astype(np.float64), None, ones.astype(np.float64))
    x, dy = backend.from_numpy(HALVES), backend.from_numpy(ones)
    got = np.array(backend.to_numpy(backend.unary_backward("gelu", x, None, dy)))
    bounds.within_ulps(got, exact, bounds.ROUNDED_ULPS["float16"], "float16")


@pytest.mark.parametrize("dtype", bounds.SIXTEEN_BIT)
def test_there_and_back(backend: Any, dtype: str) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(numpy_dtype(dtype))
    there = backend.cast(backend.from_numpy(every), "float32")
    bounds.same_bits(np.array(backend.to_numpy(there)), every.astype(np.float32))
    bounds.same_bits(np.array(backend.to_numpy(backend.cast(there, dtype))), every)


@pytest.mark.parametrize("dtype", bounds.SIXTEEN_BIT)
def test_ties_go_to_even(backend: Any, dtype: str) -> None:
    every = bounds.every_finite(dtype)
    every = np.concatenate([-every[:0:-1], every])
    low, high = every[:-1], every[1:]
    tie = (low.astype(np.float32) / 2 + high.astype(np.float32) / 2).astype(np.float32)
    exact = low.astype(np.float64) / 2 + high.astype(np.float64) / 2
    np.testing.assert_array_equal(tie, exact)  # every tie is a float32
    even = np.where(low.view(np.uint16) % 2 == 0, low, high)
    for x, expected in (
        (tie, even),
        (np.nextafter(tie, np.float32(-np.inf)), low),
        (np.nextafter(tie, np.float32(np.inf)), high),
    ):
        got = np.array(backend.to_numpy(backend.cast(backend.from_numpy(x), dtype)))
        np.testing.assert_array_equal(got.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("dtype", bounds.SIXTEEN_BIT)
def test_edges_of_the_range(backend: Any, dtype: str) -> None:
    top = bounds.MAX[dtype]
    first_inf = top + bounds.ulp(np.asarray(top), dtype) / 2
    below = np.nextafter(np.float32(first_inf), np.float32(0))
    half_smallest = bounds.SMALLEST[dtype] / 2
    x = np.array([first_inf, below, -first_inf, half_smallest, np.inf, -np.inf, np.nan, -np.nan], np.float32)
    got = np.array(backend.to_numpy(backend.cast(backend.from_numpy(x), dtype)))
    expected = [np.inf, top, -np.inf, 0, np.inf, -np.inf, np.nan, np.nan]
    np.testing.assert_array_equal(got.astype(np.float64), expected)


@pytest.mark.skipif(not bounds.HAS_BFLOAT16, reason="needs ml_dtypes")
def test_signalling_nan_stays_nan(cpu: Any) -> None:
    """A NaN whose digits are all in the lower half would be cut to an infinity."""
    x = np.array([0x7F800001, 0xFF80FFFF, 0x7FFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(cpu.cast(x, "bfloat16").astype(np.float32)).all()


@pytest.mark.skipif(not bounds.HAS_BFLOAT16, reason="needs ml_dtypes")
def test_the_two_16_bit_types_to_each_other(cpu: Any, reference: Any) -> None:
    bfloats = HALVES.view(numpy_dtype("bfloat16"))
    bounds.same_bits(cpu.cast(HALVES, "bfloat16"), reference.cast(HALVES, "bfloat16"))
    bounds.same_bits(cpu.cast(bfloats, "float16"), reference.cast(bfloats, "float16"))


@pytest.mark.skipif(not bounds.HAS_BFLOAT16, reason="needs ml_dtypes")
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_every_instruction_set_rounds_alike(cpu: Any, isa: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2**32, 4099, np.uint64).astype(np.uint32).view(np.float32)
    expected = cpu.cast(x, "bfloat16")
    try:
        cpu.native.select_isa(isa)
    except ValueError:
        pytest.skip(f"no {isa} in this build or on this machine")
    try:
        bounds.same_bits(cpu.cast(x, "bfloat16"), expected)
    finally:
        cpu.native.select_isa("auto")
