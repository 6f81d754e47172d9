"""What of PyTorch is measured, and what is said where it cannot be. A PyTorch of our own takes its place."""

from __future__ import annotations

import importlib.util
import signal
import sys
import time
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fp16engine import models
from fp16engine.bench import peers, step
from fp16engine.bench.deadline import at_most

TASK = peers.Task("dnn", 10, np.zeros((32, 8, 8, 1), np.float32), np.zeros(32, np.int64), 0.1, 0.9, "cpu")


class Step:
    """A step of a PyTorch whose FP16 takes `fp16_seconds` an image, by a clock of its own."""

    fp16_seconds = 0.0
    clock = 0.0
    arrangement = "as it is"
    wait = staticmethod(lambda: None)

    def __init__(self, net: str, precision: str, x: Any, y: Any, *settings: Any) -> None:
        if net == "bf16 fails" and precision == "bf16":
            raise RuntimeError("no BF16 here\nand many more lines")
        self.precision = precision
        self.seconds = len(y) * (Step.fp16_seconds if precision == "fp16" else 0.001)

    def __call__(self) -> None:
        Step.clock += self.seconds


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the modules in PyTorch's place look at: the network's name, and what was set."""
    state: dict[str, Any] = {"net": "a network"}
    models, steps = ModuleType("torch_models"), ModuleType("torch_step")
    models.create = lambda *a: state["net"]  # type: ignore[attr-defined]
    steps.__dict__.update(
        Step=Step, VERSION="9.9", missing=lambda device: None, place=lambda device: device,
        fastest=lambda make: make(), use_threads=lambda count: state.update(threads=count),
    )  # fmt: skip
    for name, module in (("torch_models", models), ("torch_step", steps)):
        monkeypatch.setitem(sys.modules, f"fp16engine.bench.{name}", module)
        monkeypatch.setattr(sys.modules["fp16engine.bench"], name, module, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: object())
    monkeypatch.setattr(peers.time, "perf_counter", lambda: Step.clock)
    return state


def run(threads: int | None = 3) -> tuple[Any, dict[str, tuple[int, int | None]]]:
    found, made = peers.contenders("torch", TASK, threads, lambda text: None)
    return found, {c.name: (c.batch_size, c.rounds) for c in made}


@pytest.mark.parametrize(
    ("seconds", "batch"),
    [(0.05, (32, None)), (0.07, (4, peers.SLOW_ROUNDS)), (4.9, (4, peers.SLOW_ROUNDS)), (5.1, None)],
)
def test_slow_fp16_gets_a_small_batch_and_very_slow_fp16_is_left_out(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, seconds: float, batch: Any
) -> None:
    monkeypatch.setattr(Step, "fp16_seconds", seconds)
    report, made = run()
    assert made["torch-fp32"] == made["torch-bf16"] == (32, None)
    assert made.get("torch-fp16") == batch
    reasons = {} if batch else {"torch-fp16": "a step on 4 images took 20 s"}
    assert report["left_out"] == reasons
    assert list(report["arrangements"]) == list(made)
    assert found["threads"] == 3


def test_what_pytorch_refuses_is_left_out_in_its_words(found: dict[str, Any]) -> None:
    found["net"] = "bf16 fails"
    report, made = run(threads=None)
    assert report["available"] and list(made) == ["torch-fp32", "torch-fp16"]
    assert report["left_out"] == {"torch-bf16": "no BF16 here"}
    assert "threads" not in found


@pytest.mark.parametrize("name", peers.ELSEWHERE)
def test_a_network_whose_peer_is_elsewhere_says_where(name: str) -> None:
    report, made = peers.contenders("torch", replace(TASK, model_name=name), 2, lambda text: None)
    assert not made and report
    assert not report["available"] and report["reason"] == peers.ELSEWHERE[name]
    assert name in models.names()


def test_none_is_asked_for() -> None:
    assert peers.contenders("none", TASK, 2, lambda text: None) == (None, [])


def test_a_step_that_is_not_ready_in_time_is_left_out(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fastest(make: Any) -> Any:  # a compiler that takes long for BF16, and whose caller catches everything
        step = make()
        if step.precision == "bf16":
            try:
                time.sleep(5)
            except TimeoutError:
                time.sleep(5)
        return step

    monkeypatch.setattr("fp16engine.bench.torch_step.fastest", fastest)
    monkeypatch.setattr("fp16engine.bench.deadline.AGAIN", 0.1)
    report, made = peers.contenders("torch", TASK, None, lambda text: None, 0.2)
    assert list(made[i].name for i in range(len(made))) == ["torch-fp32", "torch-fp16"]
    assert report and report["left_out"] == {"torch-bf16": "not done after 0.2 s"}
    with pytest.raises(ValueError, match="peer_seconds must be a finite number > 0, got 0"):
        step.run("dnn", 2, ("fp32",), peer_seconds=0, device="reference")


def test_a_limit_leaves_nothing_behind() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with at_most(60), at_most(None):
        pass
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL) == (0, 0)
