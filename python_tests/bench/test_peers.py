"""What of PyTorch is measured, and what is said where it cannot be. A PyTorch of our own takes its place."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fp16engine.bench import peers

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


def test_none_is_asked_for() -> None:
    assert peers.contenders("none", TASK, 2, lambda text: None) == (None, [])
