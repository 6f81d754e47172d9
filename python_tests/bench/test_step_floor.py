"""The floor of a step and its estimate, from counts that can be checked by hand."""

from __future__ import annotations

import pytest

from fp16engine.bench import step_floor
from fp16engine.bench.captured_nodes import COOPERATIVE, Call, Counted
from fp16engine.bench.step_floor import GPUS, Gpu

ROUND = Gpu("round", bandwidth=1e12, tensor=100e12, float32=10e12)
STEP = Counted(
    (
        Call("matmul", ("cublasLtMatmul",), bytes=1_000_000, flops=300_000_000, library=True),  # 1 and 3 us
        Call("relu", ("(map_kernel<T>)",), bytes=2_000_000, flops=0, library=False),  # 2 us
        Call("norm", (f"(norm_kernel<T>){COOPERATIVE}",), bytes=4_000_000, flops=10_000_000, library=False),
        Call("sum", ("(reduce_kernel<T>)", "(reduce_kernel<T>)"), bytes=0, flops=0, library=False),
    ),
    arena_bytes=5_000_000,
)


def test_the_longer_of_bytes_and_flops_of_every_call() -> None:
    times = step_floor.floor(STEP, ROUND, node_us=10.0, barrier_us=100.0)
    assert times.arithmetic == pytest.approx(3 + 1) and times.memory == pytest.approx(1 + 2 + 4)
    assert times.floor == pytest.approx(3 + 2 + 4)
    assert times.estimate == pytest.approx(9 + 5 * 10 + 100)


def test_a_row_has_the_counts() -> None:
    row = step_floor.row("dnn", 256, STEP)
    assert (row["nodes"], row["barriers"], row["mbytes"], row["gflop"]) == (5, 1, 7.0, 0.31)
    assert next(iter(row["kernels"].items())) == ("reduce_kernel", 2)
    assert row["h200_goal_us"] is None and step_floor.row("vgg16", 128, STEP)["h200_goal_us"] is None
    assert step_floor.row("vgg16", 256, STEP)["h200_goal_us"] == pytest.approx(0.28e6 * 256 / 50_000)
    assert set(row["gpus"]) == {"H100", "H200", "A100", "RTX 4080"}


def test_the_table_has_a_column_for_each_gpu_that_was_measured() -> None:
    rows = [step_floor.row(name, 256, STEP) for name in ("dnn", "other")]
    head, _, first, second = step_floor.markdown(rows, {"H200": {"dnn": 123.4}}).splitlines()
    assert head.endswith("| H200 measured, us |")
    assert first.endswith("| 123 |") and second.endswith("|  |")
    assert head.count("|") == first.count("|") == second.count("|")
    assert "measured" not in step_floor.markdown(rows)


def test_public_rates_are_ordered_as_the_products_are() -> None:
    by_name = {gpu.name: gpu for gpu in GPUS}
    assert by_name["H200"].bandwidth > by_name["H100"].bandwidth > by_name["A100"].bandwidth
    assert by_name["H200"].tensor == by_name["H100"].tensor > by_name["A100"].tensor
    assert all(gpu.tensor > gpu.float32 for gpu in GPUS)
