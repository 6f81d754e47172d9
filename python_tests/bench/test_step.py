"""Tests of the step benchmark and of the peer network."""

import importlib.util
import json
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.bench import step

SMALL: dict[str, Any] = {"image_size": 8, "channels": 1, "device": "reference", "rounds": 2, "seconds": 0.001}
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture(scope="module")
def result():
    return step.run("resnet8", 2, ("fp16", "fp32"), **SMALL)


def test_result_is_json_with_rates_ratios_and_memory(result):
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    fp16, fp32 = result["contenders"]
    assert (fp16["name"], fp32["name"]) == ("fp16", "fp32")
    assert fp16["lowest"] <= fp16["images_per_second"] <= fp16["highest"]
    assert result["ratios"]["fp16/fp32"] == fp16["images_per_second"] / fp32["images_per_second"]
    assert 0.4 < result["memory_ratio_fp16_fp32"] < 0.6
    assert result["peer"] is None


def test_time_is_attributed_to_layers_and_operations(result):
    times = result["time"]["fp16"]
    layers = {row["layer"]: row for row in times["layers"]}
    assert {"stem", "units.0.conv1", "units.2.norm2", "classifier"} <= set(layers)
    assert all(layers[name]["backward_ms"] > 0 for name in ("stem", "units.0.conv1", "classifier"))
    calls = {row["op"]: row["calls"] for row in times["operations"]}
    assert calls["conv2d_forward"] == calls["batch_norm_forward"] == 7
    parts = sum(row["ms"] for row in times["operations"])
    assert parts == pytest.approx(times["backend_ms"])
    assert parts == pytest.approx(sum(row["forward_ms"] + row["backward_ms"] for row in times["layers"]))
    assert times["backend_ms"] + times["python_ms"] == pytest.approx(times["step_ms"])


def test_a_missing_peer_is_reported_not_raised(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a)
    )
    found = step.run("dnn", 2, ("fp32",), peer="torch", **SMALL)["peer"]
    assert not found["available"]
    assert "pip install torch" in found["reason"]


@pytest.mark.parametrize(
    ("option", "words"),
    [({"rounds": 0}, r"rounds must .* got 0"), ({"peer": "jax"}, r"peer must .* got 'jax'")],
)
def test_wrong_arguments(option, words):
    with pytest.raises(ValueError, match=words):
        step.run("dnn", 2, ("fp32",), **{**SMALL, **option})


@needs_torch
@pytest.mark.parametrize(
    ("model", "size", "steps"),
    # the third loss depends on the second update, momentum and weight decay included; VGG's batch
    # norms of six values blow roundings up, so its losses are compared before the first update alone
    [("resnet20", 8, 3), ("resnet20", 9, 3), ("dnn", 8, 3), ("alexnet", 28, 3), ("vgg16", 32, 1)],
)
def test_peer_is_the_same_network_with_the_same_update(model, size, steps):
    from fp16engine.bench import torch_models

    generator = np.random.Generator(np.random.Philox(3))
    x = generator.standard_normal((6, size, size, 1), np.float32)
    y = generator.integers(0, 10, 6)
    ours = fe.models.create(model, image_size=size, channels=1)
    net = torch_models.create(model, 10, size, 1)
    torch_models.load(net, ours.state_dict())
    assert sum(p.numel() for p in net.parameters()) == ours.num_parameters()
    trainer = fe.Trainer(ours, precision="fp32", lr=0.05, momentum=0.9, device="cpu")
    step = torch_models.Step(net, "fp32", x, y, lr=0.05, momentum=0.9)
    for _ in range(steps):
        assert trainer.step(x, y).loss == pytest.approx(
            float(step()), rel=100 * float(np.finfo(np.float32).eps)
        )


@needs_torch
def test_peer_runs_against_ours_in_every_precision():
    result = step.run("resnet20", 2, ("fp16",), peer="torch", threads=1, **SMALL)
    assert [row["name"] for row in result["contenders"]] == ["fp16", "torch-fp32", "torch-bf16", "torch-fp16"]
    assert result["peer"]["version"]
    assert set(result["ratios"]) == {"fp16/torch-fp32", "fp16/torch-bf16", "fp16/torch-fp16"}


@needs_torch
@pytest.mark.parametrize("precision", ["amp", "compiled"])
def test_peers_of_a_gpu_train_on_a_processor_too(precision):
    """Their code paths: autocast with a gradient scaler, and a traced step with FP16 weights."""
    from fp16engine.bench import torch_models

    generator = np.random.Generator(np.random.Philox(3))
    x, y = generator.standard_normal((6, 8, 8, 1), np.float32), generator.integers(0, 10, 6)
    net = torch_models.create("dnn", 10, 8, 1)
    torch_models.load(net, fe.models.create("dnn", image_size=8, channels=1).state_dict())
    step = torch_models.Step(net, precision, x, y, lr=0.05, momentum=0.9)
    losses = [float(step()) for _ in range(8)]
    step.wait()
    assert losses[-1] < losses[0]
    weights = next(net.parameters()).dtype
    assert weights == torch_models.DTYPES[precision]


def test_turns_end_when_the_device_has_done_its_work():
    """What is asked for and what is done are timed apart: a device may be behind."""
    clock = []
    contender = step.Contender("fp16engine", "fp16", 10, lambda: clock.append("step"), captured=True)
    contender.wait = lambda: clock.append("wait")
    contender.kernels = lambda: 17
    # an odd number of rounds: the median of the rates is then that of the times
    step.measure([contender], 3, 0.0, lambda text: None)
    assert clock == ["step"] * 3 + ["wait", "step", "wait"] + ["step", "wait", "step", "wait"] * 3
    row = step._row(contender, None)
    assert row["name"] == "fp16-captured" and row["kernels_per_step"] == 17
    assert 0 < row["host_us_per_step"] <= 1e3 * row["step_ms"]
    assert row["seconds_per_epoch"] == pytest.approx(50_000 / row["images_per_second"])


def test_every_goal_is_of_a_model():
    assert set(step.GOALS) <= set(fe.models.names())
