"""Training in block floating point: the schedule by epoch, checkpoints across its switch, the audit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_run
from tiny_run import StopAt, fit, outcome

import fp16engine as fe
from fp16engine.numerics.audit import Audit


def test_booster_switches_before_the_last_epoch(backend_name: str) -> None:
    trainer, data = tiny_run.trainer("booster", backend_name), tiny_run.data()
    with Audit() as audit:
        trainer.fit(data, tiny_run.EPOCHS, tiny_run.BATCH, progress=False)
    steps = tiny_run.STEPS_PER_EPOCH
    backward = {
        (r.op, r.operand): r.calls for r in audit.rows if r.op.endswith("d_backward") or "linear_b" in r.op
    }
    # two layers, so both are edges: in hbfp6 from the start
    assert backward == {
        ("conv2d_backward", "hbfp6"): 3 * steps,
        ("linear_backward", "hbfp6"): 3 * steps,
    }
    assert trainer.in_force.operand == fe.BlockFormat(6)


def test_formats_by_epoch_are_those_of_the_plan() -> None:
    policy = fe.Precision.get("booster").with_layers({"0": "hbfp8"})
    trainer, data = tiny_run.trainer(policy, "reference"), tiny_run.data()
    seen = []
    for epoch in range(3):
        trainer.begin_epoch(epoch, 3)
        with Audit() as audit:
            trainer.step(data.normalised("train", "float32")[:4], data.train.labels[:4])
        seen.append(
            {r.op: r.operand for r in audit.rows if r.op.endswith("_forward") and r.operand != "none"}
        )
    assert seen == [{"conv2d_forward": "hbfp8", "linear_forward": "hbfp6"}] * 3
    assert trainer.model[0].operand == fe.BlockFormat(8)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["booster", "hbfp3-sr", "hbfp4-w9"])
def test_resume_is_bit_exact_across_the_switch(tmp_path: Path, backend_name: str, precision: str) -> None:
    policy = fe.Precision.get(precision)
    if precision == "booster":  # a layer that changes at the switch
        plan = fe.operand_plan.OperandPlan(late=fe.BlockFormat(6))
        policy = fe.Precision(**{**vars(policy), "name": "planned", "plan": plan})

    def made() -> fe.Trainer:
        return tiny_run.trainer(policy, backend_name)

    fit(made(), tmp_path / "whole")
    for resume, stop in ((False, 6), (True, 9), (True, 11)):  # of 12 steps; the switch is after the eighth
        with pytest.raises(MemoryError):
            fit(made(), tmp_path / "broken", resume, progress=StopAt(stop))
    fit(made(), tmp_path / "broken", resume=True)
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole")


def test_the_switch_stays_where_it_was_planned(tmp_path: Path) -> None:
    with pytest.raises(MemoryError):
        fit(tiny_run.trainer("booster"), tmp_path, progress=StopAt(5))
    with pytest.raises(fe.CheckpointError, match="epochs: the booster was laid out for 3, this run has 4"):
        fit(tiny_run.trainer("booster"), tmp_path, resume=True, epochs=4)


def test_a_checkpoint_remembers_the_whole_policy(tmp_path: Path) -> None:
    policy = fe.Precision.get("booster-k2-b16-w12").with_layers({"4": "fp32"})
    tiny_run.trainer(policy).fit(tiny_run.data(), 1, tiny_run.BATCH, out=tmp_path, progress=False)
    assert fe.Checkpoint.load(tmp_path).precision == policy


def test_after_a_finished_run_its_last_epoch_is_in_force(tmp_path: Path) -> None:
    policy, data = "booster", tiny_run.data()
    tiny_run.trainer(policy).fit(data, 2, tiny_run.BATCH, out=tmp_path, progress=False)
    trainer = tiny_run.trainer(policy)
    trainer.fit(data, 2, tiny_run.BATCH, out=tmp_path, resume=True, progress=False)
    assert trainer.in_force.operand == fe.BlockFormat(6)


@pytest.mark.parametrize("precision", ["hbfp4", "hbfp6-sr", "booster"])
def test_one_batch_is_overfitted(precision: str) -> None:
    data = tiny_run.data()
    trainer = tiny_run.trainer(precision, "cpu", lr=0.1)
    images, labels = data.normalised("train", "float32")[:32], data.train.labels[:32]
    for _ in range(60):
        result = trainer.step(images, labels)
    assert result.applied and result.loss < 0.5


def test_weights_are_kept_in_wide_mantissas(backend_name: str) -> None:
    trainer = tiny_run.trainer("hbfp4-w8", backend_name)
    data = tiny_run.data()
    trainer.step(data.normalised("train", "float32")[:16], data.train.labels[:16])
    for name, parameter in trainer.model.named_parameters():
        if parameter.ndim > 1:
            rows = parameter.numpy().reshape(len(parameter), -1)  # blocks of 64 are longer than these
            exponents = np.ceil(np.log2(np.abs(rows).max(1, keepdims=True)))
            steps = rows / np.exp2(exponents - 8)
            assert np.array_equal(steps, np.rint(steps)), name
        assert parameter.grad is not None and np.any(parameter.numpy()), name
