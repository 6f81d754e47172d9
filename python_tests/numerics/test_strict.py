"""The strict audit: the first violation by layer, tensor and policy line, and no trace of having looked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planted import HIDDEN, Wide, batch, net

import fp16engine as fe
from fp16engine import nn
from fp16engine.errors import PrecisionViolation
from fp16engine.numerics import strict

DEVICE = "reference"


@pytest.mark.parametrize("precision", ["fp16", "mp"])
def test_a_detour_through_float32_is_named(precision: str) -> None:
    message = f"tensor 'the result' of cast is float32; precision {precision!r} says storage: binary16"
    with pytest.raises(PrecisionViolation, match=f"layer 'middle': {message}"):
        strict.check(fe.Trainer(net(Wide()), precision, device=DEVICE), *batch())


class Float32Sum(nn.Module):
    """Adds up in FP32 registers whatever the policy."""

    def forward(self, x: Any) -> Any:
        with fe.Precision.get("fp16").use():
            return x - x.mean(axis=1, keepdims=True)


def test_an_accumulator_wider_than_the_policy_is_named() -> None:
    with pytest.raises(
        PrecisionViolation,
        match="layer 'middle': mean accumulates in float32; precision 'fp16-strict' says accumulate: ",
    ):
        strict.check(fe.Trainer(net(Float32Sum()), "fp16-strict", device=DEVICE), *batch())
    strict.check(fe.Trainer(net(Float32Sum()), "fp16", device=DEVICE), *batch())


def test_state_that_is_wider_than_the_policy_is_named() -> None:
    trainer = fe.Trainer(net(), "fp16", device=DEVICE)
    momenta = trainer.optimizer.state["momentum"]
    trainer.optimizer.state["momentum"] = [m.astype(np.float32) for m in momenta]
    with pytest.raises(PrecisionViolation, match="tensor 'momenta' of sgd is float32"):
        strict.check(trainer, *batch())


@pytest.mark.parametrize("precision", ["fp16", "fp16-strict", "mp", "fp32"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_presets_hold_and_leave_no_trace(precision: str, schedule: str, backend_name: str) -> None:
    trainer = fe.Trainer(
        net(nn.Sequential(nn.BatchNorm2d(HIDDEN), nn.Dropout(0.25))),
        precision,
        device=backend_name,
        optimizer="adam",
        schedule=schedule,
    )
    arrays = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
    state = trainer.state_dict()
    strict.check(trainer, *batch())
    after = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
    assert trainer.state_dict() == state
    assert all(np.array_equal(arrays[key], after[key]) for key in arrays)
    assert all(p.grad is None for p in trainer.model.parameters())
