"""Functions of one half, on all 65 536 of them; rounding to binary16, at and around every tie."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest

HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)
FINITE = np.sort(np.unique(HALVES[np.isfinite(HALVES)].astype(np.float32)))


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


def test_there_and_back(backend: Any) -> None:
    there = backend.cast(backend.from_numpy(HALVES), "float32")
    bounds.same_bits(np.array(backend.to_numpy(there)), HALVES.astype(np.float32))
    bounds.same_bits(np.array(backend.to_numpy(backend.cast(there, "float16"))), HALVES)


def test_ties_go_to_even(backend: Any) -> None:
    low, high = FINITE[:-1], FINITE[1:]
    tie = (low + high) / 2  # exact in float32
    even = np.where(low.astype(np.float16).view(np.uint16) % 2 == 0, low, high).astype(np.float16)
    for x, expected in (
        (tie, even),
        (np.nextafter(tie, low), low.astype(np.float16)),
        (np.nextafter(tie, high), high.astype(np.float16)),
    ):
        got = np.array(backend.to_numpy(backend.cast(backend.from_numpy(x), "float16")))
        np.testing.assert_array_equal(got, expected)


def test_edges_of_the_range(backend: Any) -> None:
    top = bounds.MAX["float16"]
    first_inf = top + bounds.ulp(np.asarray(top), "float16") / 2
    below = np.nextafter(np.float32(first_inf), np.float32(0))
    half_smallest = bounds.SMALLEST["float16"] / 2
    x = np.array([first_inf, below, -first_inf, half_smallest, np.inf, np.nan], np.float32)
    got = np.array(backend.to_numpy(backend.cast(backend.from_numpy(x), "float16")))
    np.testing.assert_array_equal(got, np.array([np.inf, top, -np.inf, 0, np.inf, np.nan], np.float16))
