"""Preflight: forecasts hold in the FP16 run that follows, and planted faults change the suggestion."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from planted import Times, net

import fp16engine as fe
from fp16engine import nn, preflight
from fp16engine.cli import main
from fp16engine.numerics.monitor import Monitor
from fp16engine.precision import Precision

DEVICE = "reference"


def data(count: int = 96) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((count, 4, 4, 1)).astype(np.float32), rng.integers(0, 5, count)


def flown(middle: nn.Module | None = None, device: str = DEVICE, **options: Any) -> dict[str, Any]:
    def make(policy: Precision) -> fe.Trainer:
        return fe.Trainer(net(middle), policy, device=device, **options)

    return preflight.run(make, *data(), batch_size=64)


def layer(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in result["layers"] if entry["layer"] == name)


def test_a_sound_network_is_sent_off_in_fp16() -> None:
    result = flown(lr=0.05)
    assert result["suggestion"]["precision"] == "fp16" and result["ok"]
    assert all(entry["problems"] == [] for entry in result["layers"])
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_an_overflow_is_forecast_and_happens() -> None:
    result = flown(Times(60000.0))
    found = layer(result, "middle")
    assert 0 < found["overflow"] < 1 and "beyond 65504" in found["problems"][0]
    assert result["suggestion"]["precision"] == "fp32" and "middle" in result["suggestion"]["reasons"][0]
    trainer = fe.Trainer(net(Times(60000.0)), "fp16", device=DEVICE, monitor=Monitor(every=1))
    x, y = data()
    trainer.step(x[:32], y[:32])
    row = trainer.monitor.samples[0].row("middle", "activations")
    assert row.ranges.inf > 0


def test_underflow_is_forecast_with_a_loss_scale_that_cures_it() -> None:
    result = flown(Times(2.0**-22))
    assert layer(result, "middle")["gradient_underflow"] > 0.9
    assert result["suggestion"]["precision"] == "mp"
    assert result["suggestion"]["settings"]["loss_scale"] == result["loss_scale"] > 1


@pytest.mark.slow
@pytest.mark.parametrize("lr", [1e-7, 0.05])
def test_lost_updates_are_forecast_as_the_meter_counts_them(lr: float) -> None:
    result = flown(lr=lr, momentum=0.0)
    lost = layer(result, "classifier")["lost_updates"]
    trainer = fe.Trainer(net(), "fp16", device=DEVICE, lr=lr, momentum=0.0, monitor=Monitor(every=1))
    x, y = data()
    for i in range(preflight.STEPS):
        trainer.step(x[32 * i : 32 * i + 32], y[32 * i : 32 * i + 32])
    counted = [
        row for sample in trainer.monitor.samples for row in sample.updates if row.layer == "classifier"
    ]
    share = sum(row.lost for row in counted) / sum(row.nonzero for row in counted)
    assert abs(lost - share) < 0.1
    assert (result["suggestion"]["precision"] == "mp") is (lr == 1e-7)


def test_the_memory_plan_adds_up(cpu: Any) -> None:
    plans = {plan["precision"]: plan for plan in flown(device="cpu")["memory"]}
    values = net().num_parameters()
    assert plans["fp16"]["weights"] == plans["fp16"]["gradients"] == plans["fp16"]["optimizer"] == 2 * values
    assert plans["fp32"]["weights"] == 4 * values
    assert plans["mp"]["optimizer"] == 8 * values  # FP32 masters and momenta
    for plan in plans.values():
        parts = [plan[key] for key in ("weights", "gradients", "optimizer", "activations")]
        assert plan["total"] == sum(parts) and plan["activations"] > 0


def test_every_backend_passes_its_own_self_test(backend_name: str) -> None:
    result = preflight.self_test(backend_name)
    assert result["passed"] and len(result["operations"]) == 7


def test_a_device_that_computes_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = fe.backend.get(DEVICE)
    right = backend.linear_forward

    def wrong(x: Any, w: Any, b: Any, acc: str) -> Any:
        y = right(x, w, b, acc)
        return (y * np.float16(1.01)).astype(y.dtype) if y.dtype == np.float16 else y

    monkeypatch.setattr(backend, "linear_forward", wrong, raising=False)
    result = preflight.self_test(DEVICE)
    assert [row["operation"] for row in result["operations"] if not row["passed"]] == ["linear"]
    suggestion = preflight.suggest([], 1.0, device_passed=False)
    assert suggestion["precision"] == "fp32"


@pytest.mark.slow
def test_the_command(cpu: Any, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["preflight", "--model", "dnn", "--limit", "64", "--batch-size", "32"]
    assert main([*argv, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["suggestion"]["precision"] == "fp16" and result["batch_size"] == 32
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "7 operations agree with FP32" in text and "Suggested: --precision fp16" in text


def test_a_learning_rate_at_which_fp32_diverges_is_the_cause():
    data = fe.data.digits().limit(96)
    images, labels = data.normalised("train", "float32"), data.train.labels

    def make(lr):
        def trainer(policy):
            model = fe.models.create("dnn", image_size=8, channels=1)
            return fe.Trainer(model, policy, lr=lr)

        return trainer

    wild = preflight.run(make(1e9), images, labels, 32)
    assert wild["diverged"] and "learning rate 1e+09" in wild["suggestion"]["reasons"][0]
    sane = preflight.run(make(0.05), images, labels, 32)
    assert not sane["diverged"] and "diverges" not in sane["suggestion"]["reasons"][0]
