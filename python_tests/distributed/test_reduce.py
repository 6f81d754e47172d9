"""The mean over ranks: its error, its bits, its bytes."""

from __future__ import annotations

import numpy as np
import pytest
from ranks import ThreadTransport, gradients, on_threads

from fp16engine.distributed import reduce as reductions
from fp16engine.distributed.transport import STEP

LENGTH = 1001  # no multiple of the number of ranks


def mean(values: np.ndarray, reduce: str) -> list[np.ndarray]:
    """The mean over ranks that have a row of values (P, L) each, as each rank gets it."""

    def work(transport: ThreadTransport) -> np.ndarray:
        found = reductions.start(reduce, transport, values.shape[1], values.dtype.name, STEP, "reference")
        found.add(values[transport.rank], range(transport.size))
        return found.result(transport.size)

    return on_threads(len(values), work)


@pytest.mark.parametrize("size", [2, 3, 4, 7, 16])
def test_one_rounding_is_within_half_an_ulp_and_what_the_fp32_sum_rounds(size: int) -> None:
    values = gradients(size, LENGTH)
    exact = values.astype(np.float64).mean(0)
    found = mean(values, "one-rounding")
    assert all(other.tobytes() == found[0].tobytes() for other in found)
    partial = np.abs(np.cumsum(values.astype(np.float64), 0)).sum(0) / size
    bound = np.spacing(np.abs(exact).astype(np.float16)).astype(np.float64) / 2
    bound += 2.0 ** -np.finfo(np.float32).nmant / 2 * (partial + np.abs(exact))
    assert np.all(np.abs(found[0].astype(np.float64) - exact) <= bound)


def test_one_rounding_adds_in_the_order_of_the_ranks() -> None:
    values = gradients(5, LENGTH)
    total = np.zeros(LENGTH, np.float32)
    for row in values:
        total += row
    expected = (total / np.float32(5)).astype(np.float16)
    assert np.array_equal(mean(values, "one-rounding")[0], expected)


def test_a_ring_in_binary16_has_a_larger_error() -> None:
    values = gradients(16, LENGTH)
    exact = values.astype(np.float64).mean(0)
    ulp = np.spacing(np.abs(exact).astype(np.float16)).astype(np.float64)
    worst = {
        reduce: float(np.median(np.abs(mean(values, reduce)[0].astype(np.float64) - exact) / ulp))
        for reduce in reductions.REDUCE
    }
    assert worst["fp32"] <= 0.5 and worst["one-rounding"] <= 0.5
    assert worst["ring-fp16"] > 2 * worst["one-rounding"]


@pytest.mark.parametrize("reduce", reductions.REDUCE)
def test_every_rank_gets_the_same_bits_and_small_integers_exactly(reduce: str) -> None:
    values = np.random.default_rng(0).integers(-60, 60, (4, LENGTH)).astype(np.float16) * 4
    found = mean(values, reduce)
    assert all(other.tobytes() == found[0].tobytes() for other in found)
    assert np.array_equal(found[0].astype(np.float64), values.astype(np.float64).mean(0))


@pytest.mark.parametrize("reduce", reductions.REDUCE)
def test_a_mean_of_large_numbers_does_not_overflow(reduce: str) -> None:
    values = np.full((4, 10), 20_000, np.float16)
    assert mean(values, reduce)[0].tolist() == [20_000.0] * 10


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("reduce", reductions.REDUCE)
def test_what_is_not_finite_on_one_rank_is_not_finite_on_all(reduce: str, bad: float) -> None:
    values = gradients(3, LENGTH)
    values[1, 7] = bad
    assert all(not np.isfinite(row[7]) and np.isfinite(row[8]) for row in mean(values, reduce))


def test_bfloat16_arrays_are_added_in_fp32_and_rounded_once() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    values = np.random.default_rng(0).standard_normal((3, LENGTH)).astype(bfloat16)
    total = np.zeros(LENGTH, np.float32)
    for row in values:
        total += row.astype(np.float32)
    expected = (total / np.float32(3)).astype(bfloat16)
    assert [found.tobytes() for found in mean(values, "one-rounding")] == [expected.tobytes()] * 3


def test_fp32_arrays_are_added_in_fp32() -> None:
    values = np.random.default_rng(0).standard_normal((3, LENGTH)).astype(np.float32)
    expected = (values[0] + values[1] + values[2]) / np.float32(3)
    assert np.array_equal(mean(values, "one-rounding")[2], expected)


@pytest.mark.parametrize(("reduce", "factor"), [("one-rounding", 1), ("ring-fp16", 1), ("fp32", 2)])
def test_the_bytes_are_those_of_a_ring(reduce: str, factor: int) -> None:
    length, size = 1200, 4
    values = gradients(size, length)

    def work(transport: ThreadTransport) -> int:
        found = reductions.start(reduce, transport, length, values.dtype.name, STEP, "reference")
        found.add(values[transport.rank], range(size))
        found.result(size)
        return transport.sent

    assert on_threads(size, work) == [2 * (size - 1) * length * 2 * factor // size] * size


def test_rounds_in_which_some_ranks_have_no_micro_batch() -> None:
    """Five micro-batches on three ranks: the sum is in their order, whoever has them."""
    values = gradients(5, LENGTH)

    def work(transport: ThreadTransport) -> np.ndarray:
        found = reductions.start("one-rounding", transport, LENGTH, values.dtype.name, STEP, "reference")
        found.add(values[transport.rank], range(3))
        found.add(values[3 + transport.rank] if transport.rank < 2 else None, range(2))
        return found.result(5)

    results = on_threads(3, work)
    assert results[0].tobytes() == results[2].tobytes() == mean(values, "one-rounding")[0].tobytes()
