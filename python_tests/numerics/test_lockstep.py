"""FP16 and FP32 in lock step: sound networks stay within their bounds, a planted amplifier is named."""

from __future__ import annotations

import json
from typing import Any

import bounds
import numpy as np
import pytest
from planted import batch, net

import fp16engine as fe
from fp16engine import nn
from fp16engine.numerics import lockstep

DEVICE = "reference"


class Cancel(nn.Module):
    """(x + 512) - 512: exact in FP32 for what binary16 stores, to half a unit in 512 in FP16."""

    def forward(self, x: Any) -> Any:
        return (x + 512.0) - 512.0


def run(middle: nn.Module | None = None, **options: Any) -> lockstep.LockStep:
    x, y = batch()
    return lockstep.compare(lambda: net(middle), x, y, device=DEVICE, **options)


@pytest.mark.parametrize("precision", ["fp16", "mp"])
def test_a_sound_network_stays_within_its_bounds(precision: str) -> None:
    step = run(precision=precision)
    assert step.first is None
    assert [row.layer for row in step.layers("forward")] == ["hidden", "relu", "classifier", "loss"]
    assert {row.phase for row in step.rows} == {"forward", "backward"}
    first = step.rows[0]
    assert first.op == "linear_forward" and 0 < first.relative_error <= bounds.U["float16"]


def test_the_first_layer_that_amplifies_the_error_is_named() -> None:
    step = run(Cancel())
    assert step.first is not None
    assert (step.first.layer, step.first.phase, step.first.outside) == ("middle", "forward", True)
    entry = json.loads(json.dumps(step.to_dict(), allow_nan=False))
    assert entry["first"]["layer"] == "middle"


def test_the_same_policy_twice_is_the_same_bits() -> None:
    step = run(nn.Dropout(0.5), precision="fp16", reference="fp16")
    assert all(row.relative_error == 0 for row in step.rows)


def test_an_error_that_is_no_number_leaves_the_bound() -> None:
    x, y = batch(scale=100.0)
    with np.errstate(over="ignore"):
        step = lockstep.compare(lambda: net(), x * np.float16(600), y, device=DEVICE)
    assert step.first is not None and step.first.layer == "hidden"
    assert step.to_dict()["first"]["relative_error"] is None


def test_the_study_s_network_stays_within_its_bounds(cpu: Any) -> None:
    digits = fe.data.digits().limit(32)
    step = lockstep.compare(
        lambda: fe.models.create("resnet20", image_size=8, channels=1),
        digits.normalised("train", "float32"),
        digits.train.labels,
    )
    assert step.first is None
