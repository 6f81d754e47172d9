"""The benchmark of a training step: what it reports, ours and PyTorch's."""

import importlib.util
import json
from typing import Any

import pytest

import fp16engine as fe
from fp16engine.bench import contender, step

SMALL: dict[str, Any] = {"image_size": 8, "channels": 1, "device": "reference", "rounds": 2, "seconds": 0.001}
ALONE: dict[str, Any] = {**SMALL, "peer": "none"}
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture(scope="module")
def result():
    return step.run("resnet8", 2, ("fp16", "fp32"), **ALONE)


def test_result_is_json_with_rates_ratios_and_memory(result):
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    fp16, fp32 = result["contenders"]
    assert (fp16["name"], fp32["name"]) == ("fp16", "fp32")
    assert fp16["lowest"] <= fp16["images_per_second"] <= fp16["highest"]
    assert result["ratios"]["fp16/fp32"] == fp16["images_per_second"] / fp32["images_per_second"]
    assert 0.4 < result["memory_ratio_fp16_fp32"] < 0.6
    assert result["peer"] is None
    assert result["roofline"] is fp16["share_of_peak"] is fp16["share_of_copy"] is None  # of the reference


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
    found = step.run("dnn", 2, ("fp32",), **SMALL)["peer"]
    assert not found["available"]
    assert "pip install torch" in found["reason"]


@pytest.mark.parametrize(
    ("option", "words"),
    [({"rounds": 0}, r"rounds must .* got 0"), ({"peer": "jax"}, r"peer must .* got 'jax'")],
)
def test_wrong_arguments(option, words):
    with pytest.raises(ValueError, match=words):
        step.run("dnn", 2, ("fp32",), **{**SMALL, **option})


def test_images_are_those_that_a_network_is_for():
    settings: dict[str, Any] = {"device": "reference", "rounds": 1, "seconds": 0.001, "peer": "none"}
    found = step.run("dnn", 1, ("fp32",), **settings)
    assert (found["image_size"], found["channels"]) == (28, 1)
    found = step.run("vit1", 1, ("fp32",), **settings)
    assert (found["image_size"], found["channels"]) == (32, 3)


def test_shares_are_of_what_the_machine_does_in_the_same_run(cpu):
    found = step.run("dnn", 2, ("fp16",), **{**ALONE, "device": "cpu"})
    (row,), best = found["contenders"], found["roofline"]
    assert [c["name"] for c in found["contenders"]] == ["fp16"]  # the gauges are none
    flops = row["images_per_second"] * found["flops_per_image"]
    assert row["share_of_peak"] == pytest.approx(flops / best["multiply-adds"])
    assert row["share_of_peak"] > 0 and row["share_of_copy"] > 0 and best["copy"] > 0


@needs_torch
def test_peer_runs_against_ours_in_every_precision():
    import torch

    torch.set_num_threads(1)  # the reference does not say how many it has
    result = step.run("resnet8", 2, ("fp16",), **SMALL)
    assert [row["name"] for row in result["contenders"]] == ["fp16", "torch-fp32", "torch-bf16", "torch-fp16"]
    assert result["peer"]["version"]
    assert set(result["ratios"]) == {"fp16/torch-fp32", "fp16/torch-bf16", "fp16/torch-fp16"}
    assert list(result["peer"]["arrangements"]) == ["torch-fp32", "torch-bf16", "torch-fp16"]
    assert result["peer"]["left_out"] == {}


def test_turns_end_when_the_device_has_done_its_work():
    """What is asked for and what is done are timed apart: a device may be behind."""
    clock = []
    one = contender.Contender("fp16engine", "fp16", 10, lambda: clock.append("step"), captured=True)
    one.wait = lambda: clock.append("wait")
    one.kernels = lambda: 17
    # an odd number of rounds: the median of the rates is then that of the times
    contender.measure([one], 3, 0.0, lambda text: None)
    assert clock == ["step"] * 3 + ["wait", "step", "wait"] + ["step", "wait", "step", "wait"] * 3
    row = step._row(one, None)
    assert row["name"] == "fp16-captured" and row["kernels_per_step"] == 17
    assert 0 < row["host_us_per_step"] <= 1e3 * row["step_ms"]
    assert row["seconds_per_epoch"] == pytest.approx(50_000 / row["images_per_second"])


def test_every_goal_is_of_a_model():
    assert set(step.GOALS) <= set(fe.models.names())
