"""What audit, --strict and the count of memory see of the exchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny_run
from ranks import ThreadTransport, on_threads

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine.distributed import group
from fp16engine.distributed.reduce import REDUCE, start
from fp16engine.errors import PrecisionViolation
from fp16engine.numerics.audit import Audit, audit_step
from fp16engine.numerics.strict import check

SIZE = 2


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[fe.Trainer]]:
    """Makes the trainers of two ranks that are threads."""

    def make(policy: str, **options: Any) -> list[fe.Trainer]:
        made = []
        queues = ThreadTransport.queues_of(SIZE)
        for rank in range(SIZE):
            monkeypatch.setattr(group, "transport", lambda rank=rank: ThreadTransport(rank, SIZE, queues, 60))
            made.append(tiny_run.trainer(policy, distributed=True, **options))
        return made

    return make


def batch() -> tuple[np.ndarray, np.ndarray]:
    data = tiny_run.data()
    return data.normalised("train", "float16")[:4], data.train.labels[:4]


@pytest.mark.parametrize("policy", ["fp16", "mp", "hbfp6"])
def test_the_audit_names_the_accumulator_and_the_buffers_of_the_exchange(
    policy: str, trainers: Callable[..., list[fe.Trainer]]
) -> None:
    made, stored = trainers(policy), fe.Precision.get(policy).storage
    for audit in on_threads(SIZE, lambda transport: audit_step(made[transport.rank], *batch())):
        rows = [row for row in audit.rows if row.op == "add_to_sum"]
        assert {row.accumulator for row in rows} == {"float32"}
        assert (("total", "float32"), ("x", stored)) in {row.inputs for row in rows}
        means = [row for row in audit.rows if row.op == "mean_of_sum"]
        assert {row.inputs for row in means} == {(("total", "float32"),)}
        assert (("y", stored),) in {row.outputs for row in means}
        assert not {"add_to_sum", "mean_of_sum"} & {
            row.op for row in audit.float32_tensors(fe.Precision.get(policy))
        }


def test_strict_passes_what_a_policy_allows_and_refuses_the_rest(
    trainers: Callable[..., list[fe.Trainer]],
) -> None:
    made = trainers("fp16")
    on_threads(SIZE, lambda transport: check(made[transport.rank], *batch()))
    made = trainers("fp16-strict")
    with pytest.raises(PrecisionViolation, match=r"add_to_sum is float32; precision 'fp16-strict' says"):
        on_threads(SIZE, lambda transport: check(made[transport.rank], *batch()))


def test_strict_refuses_the_fp32_copies_of_synchronised_norms(
    trainers: Callable[..., list[fe.Trainer]],
) -> None:
    made = trainers("fp16", sync_norm=True)
    with pytest.raises(PrecisionViolation, match="of cast is float32; precision 'fp16' says"):
        on_threads(SIZE, lambda transport: check(made[transport.rank], *batch()))


def test_a_step_has_the_same_bits_where_somebody_looks(trainers: Callable[..., list[fe.Trainer]]) -> None:
    def weights(look: bool, **options: Any) -> list[bytes]:
        made = trainers("fp16", **options)

        def work(transport: ThreadTransport) -> bytes:
            trainer = made[transport.rank]
            for _ in range(2):
                if look:
                    with Audit():
                        trainer.step(*batch())
                else:
                    trainer.step(*batch())
            return b"".join(p.numpy().tobytes() for p in trainer.model.parameters())

        return on_threads(SIZE, work)

    assert weights(look=True) == weights(look=False) == weights(look=False, monitor=1)


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("reduce", REDUCE)
def test_the_peak_of_memory_has_the_exchange(reduce: str, device: str) -> None:
    """At least the FP32 sum of a shard and the shard that comes in."""
    length, backend = 1 << 16, backends.get(device)
    own = backend.zeros((length,), "float16")

    def work(transport: ThreadTransport) -> None:
        mean = start(reduce, transport, length, "float16", device=device)
        mean.add(own, range(SIZE))
        mean.result(SIZE)

    backend.reset_peak()
    before = backend.memory()["current"]
    on_threads(SIZE, work)
    assert backend.memory()["peak"] - before >= length // SIZE * (4 + 2)
