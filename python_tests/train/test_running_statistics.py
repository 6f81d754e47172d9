"""Running statistics in whole runs: reach of binary16, the buffers that a step checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import nn, preflight
from fp16engine.numerics import advice
from fp16engine.numerics.monitor import Monitor

DIGITS = fe.data.digits()


class Scaled(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Any) -> Any:
        return x * self.by


def trainer(
    precision: str | fe.Precision, by: float = 500.0, device: str = "cpu", **options: Any
) -> fe.Trainer:
    with fe.random.fork(0):
        model = nn.Sequential(nn.Flatten(), Scaled(by), nn.BatchNorm2d(64), nn.Linear(64, 10))
    return fe.Trainer(model, precision, lr=0.05, device=device, **options)


def plain(precision: str = "fp16") -> fe.Precision:
    return fe.Precision.get(precision).changed(statistics_form="plain")


@pytest.mark.parametrize("by", [500.0, 1500.0])
def test_standard_deviations_above_256_train_as_in_fp32(by: float) -> None:
    accuracy = {}
    for precision in ("fp32", "fp16", "fp16-strict"):
        run = trainer(precision, by)
        accuracy[precision] = (
            run.fit(DIGITS, epochs=5, batch_size=32, progress=False).epochs[-1].test_accuracy
        )
        assert run.nonfinite_steps == 0
        assert all(np.isfinite(b.numpy()).all() for _, b in run.model.named_buffers())
    assert accuracy["fp32"] > 0.9
    assert all(value > accuracy["fp32"] - 0.02 for value in accuracy.values()), accuracy


@pytest.mark.parametrize("capture", [False, True])
def test_a_buffer_that_overflows_is_named_and_the_step_not_applied(simt: Any, capture: bool) -> None:
    run = trainer(plain(), device="simt", capture=capture, max_bad_steps=2)
    before = run.model.state_dict()
    with pytest.raises(fe.NonFiniteError, match=r"the buffer '2\.running_var' is not finite"):
        run.fit(DIGITS.limit(96), epochs=1, batch_size=32, progress=False)
    for name, values in run.model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])  # the count of updates, too


def test_the_monitor_names_a_variance_before_it_is_infinite() -> None:
    """A deviation of about 190: 36 000 of 65 504, so nothing has broken yet."""
    for precision, said in ((plain(), True), (fe.Precision.get("fp16"), False)):
        run = trainer(precision, 190.0 / 6, monitor=Monitor(every=1))
        x = DIGITS.normalised("train", "float16")[:32]
        x[:] = np.where(np.arange(32)[:, None, None, None] % 2, 6, -6)
        assert run.step(x, DIGITS.train.labels[:32]).applied
        assert run.monitor is not None
        (sample,) = run.monitor.samples
        found = [f for f in sample.findings if f.problem == advice.VARIANCE]
        assert [f.layer for f in found] == (["2"] if said else [])
        if said:
            assert "65504" in found[0].text and "native" in found[0].remedy


@pytest.mark.slow
def test_preflight_names_the_norm_that_plain_statistics_would_break() -> None:
    x, y = DIGITS.normalised("train", "float32")[:96], DIGITS.train.labels[:96]
    for form in ("native", "plain"):

        def make(policy: fe.Precision, form: str = form) -> fe.Trainer:
            return trainer(policy.changed(statistics_form=form) if policy.statistics == "float16" else policy)

        result = preflight.run(make, x, y, 32)
        named = [
            layer["layer"] for layer in result["layers"] if any("variance" in p for p in layer["problems"])
        ]
        assert named == (["2"] if form == "plain" else [])
        assert ("statistics" in result["suggestion"]["settings"]) == (form == "plain")
