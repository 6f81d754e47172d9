"""What ranks agree on: rows in order, words, settings; and which arguments go together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ranks import ThreadTransport, on_threads

import fp16engine as fe
from fp16engine.distributed.data_parallel import DataParallel, data_parallel
from fp16engine.distributed.parallel import OneProcess
from fp16engine.errors import UnsupportedPrecision


def joined(transport: ThreadTransport) -> DataParallel:
    return DataParallel(transport, "one-rounding", sync_norm=False)


@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("told", [True, False])
def test_rows_are_in_the_order_of_the_micro_batches(count: int, told: bool) -> None:
    rows = np.arange(2.0 * count).reshape(count, 2)

    def work(transport: ThreadTransport) -> np.ndarray:
        parallel = joined(transport)
        return parallel.interleaved(rows[list(parallel.own(count))], count if told else None)

    assert all(np.array_equal(found, rows) for found in on_threads(3, work))


@pytest.mark.parametrize(
    ("said", "agreed"),
    [((None, None, None), None), ((None, "b", "c"), "b"), (("SIGTERM", None, None), "SIGTERM")],
)
def test_the_lowest_rank_that_says_something_is_followed(said: tuple[Any, ...], agreed: str | None) -> None:
    found = on_threads(3, lambda transport: joined(transport).agreed(said[transport.rank]))
    assert found == [agreed] * 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            lambda rank: {"version": "1", "data": "ab"[rank == 2]},
            "data must be the same on all ranks, got 'a' on rank 0 and 'b' on rank 2",
        ),
        (
            lambda rank: {
                "training": {"filler": "x" * 500, "lr": 0.1 + rank, "betas": [rank % 2, 1]},
                **({"late": True} if rank == 1 else {}),
            },
            "training.lr, training.betas, late must be the same on all ranks, got training.lr 0.1 on rank 0 "
            "and 1.1 on rank 1",
        ),
    ],
)
def test_equal_settings_pass_and_all_that_differ_are_named_on_every_rank(settings: Any, words: str) -> None:
    on_threads(3, lambda transport: joined(transport).require_same(settings(0)))

    def differs(transport: ThreadTransport) -> str:
        with pytest.raises(ValueError) as refused:
            joined(transport).require_same(settings(transport.rank))
        return str(refused.value)

    assert on_threads(3, differs) == [words] * 3


@pytest.mark.parametrize(("count", "present"), [(6, [3, 3]), (4, [3, 1]), (3, [3])])
def test_present_are_the_ranks_that_take_a_micro_batch_now(count: int, present: list[int]) -> None:
    parallel = joined(ThreadTransport(0, 3, {}, 1))
    found = []
    for index in parallel.own(count):
        parallel.begin(index, count)
        found.append(len(parallel.present))
    assert found == present


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"reduce": "mean"}, ValueError, "reduce must be one of one-rounding, ring-fp16, fp32, got 'mean'"),
        ({"sync_norm": True}, ValueError, "sync_norm must be False without distributed, got True"),
        ({"distributed": 1}, TypeError, "distributed must be True or False, got 1"),
        (
            {"distributed": True, "reduce": "ring-fp16", "precision": "fp32"},
            UnsupportedPrecision,
            "reduce must not be ring-fp16 with float32 gradients",
        ),
        (
            {"distributed": True, "sync_norm": True, "precision": "fp16-strict"},
            UnsupportedPrecision,
            "sync_norm must be False with fp16-strict, whose sums are float16, got True",
        ),
        (
            {"distributed": True, "sync_norm": True, "on_nonfinite": "explain"},
            ValueError,
            "on_nonfinite must not be explain with sync_norm",
        ),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    model = fe.models.create("dnn", image_size=8, channels=1)
    with pytest.raises(error, match=words):
        fe.Trainer(model, device="reference", **options)


def test_a_process_alone_needs_nothing() -> None:
    alone = data_parallel(True, True, "one-rounding", fe.Precision.get("fp16"), "skip")
    assert isinstance(alone, OneProcess) and alone.record() is None
    assert alone.agreed("words") == "words" and list(alone.own(3)) == [0, 1, 2]
