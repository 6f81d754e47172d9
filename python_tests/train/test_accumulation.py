"""A step of several micro-batches: streams of their own, weights of unequal parts, sums in FP32."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_run

import fp16engine as fe
from fp16engine import functional as F
from fp16engine.train.accumulation import STREAM, stream


def test_streams_are_different_and_the_first_is_the_steps_own() -> None:
    drawn = {"seed": 2**64 - 1, "stream": 3, "dropout": 8}
    seeds = [stream(drawn, index)["seed"] for index in range(1000)]
    assert stream(drawn, 0) == drawn and len(set(seeds)) == 1000 and max(seeds) < 2**64
    assert STREAM % 2 == 1


def test_micro_batches_draw_different_masks_and_the_counter_moves_as_for_one() -> None:
    data = tiny_run.data()
    x, y = data.normalised("train", "float16")[:8], data.train.labels[:8]
    one, two = tiny_run.trainer(), tiny_run.trainer(accumulate=2)
    one.step(x[:4], y[:4])
    two.step(x, y)
    assert one.state.random == two.state.random
    twin = tiny_run.trainer(accumulate=2)
    twin.step(np.concatenate([x[:4], x[:4]]), np.concatenate([y[:4], y[:4]]))
    same = zip(twin.model.parameters(), one.model.parameters(), strict=True)
    assert any(a.grad.numpy().tobytes() != b.grad.numpy().tobytes() for a, b in same), "one mask for both"


def test_an_unequal_part_counts_by_its_share() -> None:
    """Six images in parts of 4 and 2: the mean over all, not over the parts."""
    data, labels = tiny_run.data().normalised("train", "float32")[:6], tiny_run.data().train.labels[:6]
    fe.manual_seed(7)
    layer = fe.nn.Sequential(fe.nn.Flatten(), fe.nn.Linear(16, 3))
    trainer = fe.Trainer(layer, "fp32", lr=1e-30, device="reference", accumulate=2)
    result = trainer.step(data, labels)
    parts = [p.grad.numpy() for p in trainer.model.parameters()]
    trainer.optimizer.zero_grad()
    whole = F.cross_entropy(layer(fe.tensor(data, device="reference")), fe.tensor(labels, device="reference"))
    whole.backward()
    assert result.loss == pytest.approx(whole.item(), rel=1e-6)
    for ours, parameter in zip(parts, trainer.model.parameters(), strict=True):
        assert ours == pytest.approx(parameter.grad.numpy(), rel=1e-5, abs=1e-6)


def test_gradients_whose_sum_overflows_have_a_mean() -> None:
    """Four gradients of 40,000 each, which binary16 cannot add."""
    x = np.full((4, 1, 1, 1), 200, np.float16)
    model = fe.nn.Sequential(fe.nn.Flatten(), fe.nn.Linear(1, 1, bias=False))

    def loss(logits: fe.Tensor, labels: fe.Tensor) -> fe.Tensor:
        return (logits * 200.0).mean()

    model.to("reference", "fp16")
    next(iter(model.parameters())).data[...] = 0
    trainer = fe.Trainer(model, "fp16", lr=1e-6, device="reference", accumulate=4, loss=loss)
    assert trainer.step(x, np.zeros(4, np.int64)).applied
    assert [p.grad.numpy().tolist() for p in trainer.model.parameters()] == [[[40_000]]]


@pytest.mark.parametrize("policy", ["fp16", "mp", "hbfp6"])
def test_the_audit_allows_the_fp32_sum_where_sums_are_fp32(policy: str) -> None:
    from fp16engine.errors import PrecisionViolation
    from fp16engine.numerics.audit import audit_step
    from fp16engine.numerics.strict import check

    batch = tiny_run.data().normalised("train", "float16")[:4], tiny_run.data().train.labels[:4]
    found = audit_step(tiny_run.trainer(policy, accumulate=2), *batch)
    assert "add_to_sum" in {row.op for row in found.float32_tensors()}
    assert "add_to_sum" not in {row.op for row in found.float32_tensors(fe.Precision.get(policy))}
    check(tiny_run.trainer(policy, accumulate=2), *batch)
    with pytest.raises(PrecisionViolation, match=r"add_to_sum is float32; precision 'fp16-strict' says"):
        check(tiny_run.trainer("fp16-strict", accumulate=2), *batch)
