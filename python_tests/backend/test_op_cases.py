"""The table of cases on every backend, judged by the strictest tier that applies."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import bounds
import numpy as np
import pytest
from op_case import Case, arrays, call, mapped
from op_cases import CASES

from fp16engine.errors import UnsupportedPrecision

ACCUMULATORS = ("float32", "float16")
CHUNKED = "float16:32"  # for dot products
_DOT_PRODUCTS = {"matmul", "linear_forward", "linear_backward", "conv2d_forward", "conv2d_backward"}
_CHUNKED_RANGES = ("integers", "normal")


Row = tuple[Case, str, str, str]  # case, values, dtype, accumulator


def _rows(cases: Iterable[Case], ranges: tuple[str, ...] | None = None) -> list[Row]:
    """Return all rows that make sense: a binary16 accumulator takes binary16 arrays."""
    return [
        (case, values, dtype, acc)
        for case in cases
        for values in ranges or case.ranges
        for dtype in _dtypes(case)
        for acc in _accumulators(case, values, dtype)
    ]


def _dtypes(case: Case) -> tuple[str, ...]:
    """Return the case's dtypes: bfloat16 next to float16, but where the case names a dtype itself."""
    named = case.method != "cast" and "dtype" in case.arguments
    more = bounds.HAS_BFLOAT16 and "float16" in case.storage and not named
    return (*case.storage, "bfloat16") if more else case.storage


def _by_operation(rows: Iterable[Row]) -> pytest.MarkDecorator:
    """Parametrize a test by operation, dtype and accumulator: `cases` are its rows by their names."""
    joined: dict[str, dict[str, Row]] = {}
    for case, values, dtype, acc in rows:
        cases = joined.setdefault(f"{case.method}-{dtype}-acc-{acc}", {})
        name = f"{case.name}-{values}"
        assert name not in cases
        cases[name] = case, values, dtype, acc
    return pytest.mark.parametrize("cases", [pytest.param(cases, id=name) for name, cases in joined.items()])


def _accumulators(case: Case, values: str, dtype: str) -> tuple[str, ...]:
    if not case.accumulates or dtype != "float16":
        return ("float32",)
    products = case.method in _DOT_PRODUCTS or case.method.startswith("attention")
    return (*ACCUMULATORS, CHUNKED) if products and values in _CHUNKED_RANGES else ACCUMULATORS


def _tier(*tiers: str) -> list[Case]:
    return [case for case in CASES if case.tier in tiers]


def _exactly(reference: Any, case: Case, inputs: Any) -> list[np.ndarray | None]:
    """Return the float64 outputs, as the reference computes them from the same inputs."""
    return call(reference, case, mapped(inputs, lambda a: a), "float32")


def _exact(backend: Any, reference: Any, case: Case, values: str, dtype: str, acc: str) -> None:
    inputs = arrays(case, values, dtype)
    for got, exact in zip(call(backend, case, inputs, acc), _exactly(reference, case, inputs), strict=True):
        assert (got is None) == (exact is None)
        if got is not None and exact is not None:
            assert np.max(np.abs(exact), initial=0) <= bounds.EXACT_INTEGERS["float16"]
            assert got.shape == exact.shape
            # of bfloat16, integers up to 256 are exact; sums of more are rounded once
            expected = bounds.rounded(exact, dtype) if dtype == "bfloat16" else exact
            np.testing.assert_array_equal(got.astype(np.float64), expected.astype(np.float64))


@_by_operation(_rows((c for c in CASES if c.exact), ("integers",)))
def test_exact(for_each: Any, backend: Any, reference: Any, cases: dict[str, Row]) -> None:
    """Small integers, every partial sum representable: equality with float64 whatever the order."""
    for_each(cases, partial(_exact, backend, reference))


def _bit_equal(compiled: Any, reference: Any, case: Case, values: str, dtype: str, acc: str) -> None:
    inputs = arrays(case, values, dtype)
    outputs, definition = call(compiled, case, inputs, acc), call(reference, case, inputs, acc)
    if acc == CHUNKED and case.method.endswith("_backward"):
        del outputs[2], definition[2]  # a bias gradient: an FP32 sum then, whose order is free
    for got, expected in zip(outputs, definition, strict=True):
        assert (got is None) == (expected is None)
        if got is not None and expected is not None:
            bounds.same_bits(got, expected)


@_by_operation(_rows(_tier("bits")) + [row for row in _rows(_tier("sums", "norm")) if row[3] != "float32"])
def test_bit_equal(for_each: Any, compiled: Any, reference: Any, cases: dict[str, Row]) -> None:
    """Our own kernels replay the documented order: equality with the reference, on every value there is."""
    for_each(cases, partial(_bit_equal, compiled, reference))


def _bounded(backend: Any, reference: Any, case: Case, values: str, dtype: str, acc: str) -> None:
    inputs = arrays(case, values, dtype)
    exact = _exactly(reference, case, inputs)
    # Every "sums" case is linear in each of its arrays: squared arrays give the sum of squared terms, ones
    # their number. The terms of an average are x / n, so their squares need one more division by n; a pooling
    # window may have fewer pixels than n and goes without it, on the wide side.
    signed = values != "positive"
    sizes = call(reference, case, mapped(inputs, np.square if signed else np.abs), "float32")
    terms = call(reference, case, mapped(inputs, np.ones_like), "float32")
    for got, expected, size, count in zip(
        call(backend, case, inputs, "float32"), exact, sizes, terms, strict=True
    ):
        if got is None or expected is None or size is None or count is None:
            assert got is None and expected is None
            continue
        with np.errstate(all="ignore"):
            bound = bounds.zero_mean if signed else bounds.any_inputs
            n = _averaged(case, inputs)
            share = n if signed and case.method == "mean" else 1
            accumulated = bound(size / share, n or count, "float32")
        bounds.bounded(got, expected, accumulated, dtype)


@_by_operation(
    row
    for row in _rows(_tier("sums"))
    # Products of the largest of these numbers leave the accumulator's range: nothing is left to bound.
    if row[3] == "float32" and row[1:3] not in (("large", "float32"), ("large", "bfloat16"))
)
def test_bounded(for_each: Any, backend: Any, reference: Any, cases: dict[str, Row]) -> None:
    """Sums in an FP32 accumulator, in any order, against float64."""
    for_each(cases, partial(_bounded, backend, reference))


def _averaged(case: Case, inputs: Any) -> int:
    """Return how many terms an average has at most, 0 for a sum."""
    if case.method == "mean":
        return math.prod(inputs["x"].shape[axis] for axis in case.arguments["axes"])
    return math.prod(case.arguments["size"]) if case.method.startswith("avg_pool") else 0


def _rounded(backend: Any, reference: Any, case: Case, values: str, dtype: str, acc: str) -> None:
    inputs = arrays(case, values, dtype)
    (got,), (exact,) = call(backend, case, inputs, acc), _exactly(reference, case, inputs)
    assert got is not None and exact is not None
    bounds.within_ulps(got, exact, bounds.ROUNDED_ULPS[dtype], dtype)


@_by_operation(_rows(_tier("rounded")))
def test_rounded(for_each: Any, backend: Any, reference: Any, cases: dict[str, Row]) -> None:
    """Functions computed in registers and rounded once, against correctly rounded float64."""
    for_each(cases, partial(_rounded, backend, reference))


def _relative(compiled: Any, reference: Any, case: Case, values: str, dtype: str, acc: str) -> None:
    inputs = arrays(case, values, dtype)
    naive = call(reference, case, inputs, acc)
    exact = _exactly(reference, case, inputs)
    for got, version, expected in zip(call(compiled, case, inputs, acc), naive, exact, strict=True):
        assert (got is None) == (expected is None)
        if got is not None and version is not None and expected is not None:
            bounds.relative(got, version, expected, dtype)


@_by_operation(_rows(_tier("relative")))
def test_relative(for_each: Any, compiled: Any, reference: Any, cases: dict[str, Row]) -> None:
    """Composites: an error against float64 of at most twice the reference's with the same policy, plus 2
    ulp."""
    for_each(cases, partial(_relative, compiled, reference))


def _deterministic(threads: Any, case: Case, values: str, dtype: str, acc: str) -> None:
    inputs = arrays(case, values, dtype)
    threads.set_num_threads(1)
    first = call(threads, case, inputs, acc)
    for count in (1, 2, 3):
        threads.set_num_threads(count)
        for got, expected in zip(call(threads, case, inputs, acc), first, strict=True):
            if got is not None and expected is not None:
                bounds.same_bits(got, expected)


@_by_operation(_rows(CASES, ("normal",)))
def test_deterministic(for_each: Any, threads: Any, cases: dict[str, Row]) -> None:
    """The same bits on every call, with any number of threads."""
    for_each(cases, partial(_deterministic, threads))


# The simulator has no kernel for these: NumPy moves the data.
_MOVES = {"transpose", "broadcast_to", "cat", "pad2d", "crop2d", "copy", "getitem"}
# Nor for these, which are a library's, but for depthwise convolutions and for binary16 accumulators.
_PRODUCTS = {"matmul", "linear_forward", "conv2d_forward", "conv2d_backward"}


def _has_kernel(case: Case, acc: str) -> bool:
    if case.method in _PRODUCTS:
        return "depthwise" in case.label or acc != "float32"
    return case.method not in _MOVES


def _every_schedule(simt: Any, case: Case, values: str, dtype: str, acc: str) -> None:
    inputs = arrays(case, values, dtype)
    for offset, schedules in ((0, (0, 1, 2)), (1, (3, 4))):
        simt.offset = offset
        first = None
        for schedule in schedules:
            simt.set_schedule(schedule)
            simt.native.set_num_threads(1 + schedule % 3)
            outputs = call(simt, case, inputs, acc)
            first = outputs if first is None else first
            for got, expected in zip(outputs, first, strict=True):
                if got is not None and expected is not None:
                    bounds.same_bits(got, expected)


@_by_operation(row for row in _rows(CASES, ("normal",)) if _has_kernel(row[0], row[3]))
def test_every_schedule(for_each: Any, simt: Any, cases: dict[str, Row]) -> None:
    """The same bits in whatever order threads and blocks of a GPU run, on arrays that are aligned or not."""
    for_each(cases, partial(_every_schedule, simt))


def test_no_half_accumulator_for_float32(for_each: Any, backend: Any) -> None:
    def refused(case: Case) -> None:
        with pytest.raises(UnsupportedPrecision):
            call(backend, case, arrays(case, "normal", "float32"), "float16")

    for_each({c.name: (c,) for c in CASES if c.accumulates and c.storage[-1] == "float32"}, refused)
