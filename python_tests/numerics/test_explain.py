"""Explain my NaN: the replay names the first operation, its inputs and the remedy, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run as tiny
from planted import HIDDEN, OverItself, Times, batch, net

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine import nn
from fp16engine.errors import NonFiniteError

DEVICE = "reference"


def explained(middle: nn.Module, precision: str = "fp16", device: str = DEVICE, **options: Any) -> Any:
    trainer = fe.Trainer(net(middle), precision, device=device, on_nonfinite="explain", **options)
    x, y = batch()
    with pytest.raises(NonFiniteError) as error:
        trainer.step(x, y)
    return error.value


class Log(nn.Module):
    def forward(self, x: Any) -> Any:
        return fe.functional.log(fe.functional.softmax(x * 20000.0))


class Convolution(nn.Module):
    """3x3, over images of one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(HIDDEN, HIDDEN, 3)

    def forward(self, x: Any) -> Any:
        return self.conv(x.reshape(-1, 1, 1, HIDDEN)).reshape(-1, HIDDEN)


class Root(nn.Module):
    def forward(self, x: Any) -> Any:
        return fe.functional.sqrt(x - 1.0)


def test_an_overflow_is_named_with_its_inputs(backend_name: str) -> None:
    error = explained(Times(60000.0), device=backend_name)
    found = error.explanation
    assert (found["phase"], found["layer"], found["op"]) == ("forward", "middle", "binary mul")
    assert found["inputs"]["a"]["inf"] == 0 and found["output"]["inf"] > 0
    assert "normalise or scale down" in found["remedy"]
    assert str(error).startswith("step 1, forward pass, layer 'middle' (binary mul): ")
    assert "the loss is NaN" in str(error)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_replay_takes_direct_sums(backend_name: str) -> None:
    """Winograd's algorithm makes one infinity NaN over a tile."""
    if not backends.get(backend_name).capabilities.winograd:
        pytest.skip(f"{backend_name} has no Winograd convolution")
    with fe.numerics.Audit() as audit:
        explained(nn.Sequential(Times(100.0), Convolution(), Times(60000.0)), "fp16", backend_name)
    calls = {row.algorithm: row.calls for row in audit.rows if row.op == "conv2d_forward"}
    assert calls == {"winograd": 1, "direct": 1}  # the step, its replay


@pytest.mark.parametrize(
    ("middle", "op", "cause"),
    [
        (OverItself(1e-8), "binary div", "divided by 0 after add of 1e-08, which is 0 in binary16"),
        (OverItself(0.0), "binary div", "divided by 0"),
        (Log(), "unary log", "logarithm of 0"),
        (Root(), "unary sqrt", "square root of a negative number"),
        (
            nn.BatchNorm2d(HIDDEN, eps=1e-12),
            "batch_norm_forward",
            "eps=1e-12 makes 1 / sqrt(var + eps)",
        ),
    ],
    ids=["eps", "zero", "log", "sqrt", "norm"],
)
def test_causes(middle: nn.Module, op: str, cause: str) -> None:
    trainer = fe.Trainer(net(middle), "fp16", device=DEVICE, on_nonfinite="explain")
    x, y = batch()
    if op.startswith("batch_norm"):
        trainer.model.hidden.weight.data[0] = 0  # a channel without variance
    with pytest.raises(NonFiniteError) as error:
        trainer.step(x, y)
    found = error.value.explanation
    assert found is not None
    assert (found["layer"], found["op"]) == ("middle", op)
    assert cause in found["cause"]


def test_a_gradient_that_overflows_is_found_in_the_backward_pass() -> None:
    trainer = fe.Trainer(net(Times(2.0**-15)), "fp16", device=DEVICE, on_nonfinite="explain")
    trainer.model.classifier.weight.data[...] = 30000.0
    trainer.model.hidden.weight.data[...] = 2.0
    x, y = batch()
    trainer.model.middle.factor = 2.0**-15
    trainer.model.classifier.weight.data[:2] = -30000.0
    from fp16engine.numerics.explain import explain

    labels = y.astype(np.int64)
    images = fe.backend.get(DEVICE).from_numpy(x)
    state, objective = trainer.state, trainer.objective

    def forward() -> fe.Tensor:
        return objective.loss(objective.logits(state, images), fe.Tensor(labels, DEVICE))

    found = explain(state, forward, [images], scale=2.0**15)
    assert (found.phase, found.layer) == ("backward", "classifier")
    assert "the gradient leaves binary16" in found.cause and "loss scale" in found.remedy


def test_an_input_or_a_parameter_that_is_not_finite() -> None:
    x, y = batch()
    x[3, 1] = np.inf
    trainer = fe.Trainer(net(), "fp16", device=DEVICE, on_nonfinite="explain")
    with pytest.raises(NonFiniteError, match="layer '\\(input\\)' \\(x\\): the input is not finite"):
        trainer.step(x, y)
    trainer = fe.Trainer(net(), "fp16", device=DEVICE, on_nonfinite="explain")
    trainer.model.classifier.bias.data[0] = np.nan
    with pytest.raises(NonFiniteError, match=r"the parameter 'classifier\.bias' is not finite"):
        trainer.step(*batch())


def test_the_replay_changes_nothing_and_draws_the_same_dropout() -> None:
    middle = nn.Sequential(nn.BatchNorm2d(HIDDEN), nn.Dropout(0.5), Times(60000.0))
    trainer = fe.Trainer(net(middle), "fp16", device=DEVICE)
    before = trainer.model.state_dict()
    trainer.step(*batch())
    state = trainer.state_dict()
    other = fe.Trainer(net(middle), "fp16", device=DEVICE, on_nonfinite="explain")
    with pytest.raises(NonFiniteError):
        other.step(*batch())
    assert {**other.state_dict(), "bad_streak": 1} == state
    after = other.model.state_dict()
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_stop_says_why_and_skip_continues() -> None:
    stopping = fe.Trainer(net(Times(60000.0)), "fp16", device=DEVICE, on_nonfinite="stop")
    with pytest.raises(NonFiniteError, match="step 1 was not applied because the loss is NaN"):
        stopping.step(*batch())
    skipping = fe.Trainer(net(Times(60000.0)), "fp16", device=DEVICE)
    assert skipping.step(*batch()).applied is False
    with pytest.raises(ValueError, match="on_nonfinite must be one of skip, stop, explain, got 'ignore'"):
        fe.Trainer(net(), on_nonfinite="ignore")


def test_loss_scaling_may_still_search_its_scale() -> None:
    """An overflow that a lower scale cures is no fault."""
    trainer = fe.Trainer(net(Times(64.0)), "mp", device=DEVICE, on_nonfinite="explain", lr=1e-3)
    results = [trainer.step(*batch()) for _ in range(12)]
    assert not results[0].applied and results[-1].applied


def test_fit_keeps_the_explanation_next_to_its_results(tmp_path: Path) -> None:
    trainer = tiny.trainer(on_nonfinite="explain")
    trainer.model.layers[-1].weight.data[...] = 60000.0
    with pytest.raises(NonFiniteError):
        trainer.fit(tiny.data(), 1, tiny.BATCH, tmp_path / "run", progress=False)
    kept = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert kept["layer"] and kept["remedy"]
