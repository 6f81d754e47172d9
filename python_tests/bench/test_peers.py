"""A peer that fails or does not become ready is named, and the others are measured: on a made-up PyTorch."""

from __future__ import annotations

import importlib.util
import signal
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from fp16engine.bench import step
from fp16engine.bench.deadline import at_most
from fp16engine.cli import main


class Step:
    def __init__(self, net: Any, precision: str, *arguments: Any) -> None:
        if precision == "bf16":
            raise RuntimeError("no kernel\nfor this type")
        self.precision = precision

    def __call__(self) -> None:
        while self.precision == "fp16":  # a compiler that catches everything and goes on
            try:
                time.sleep(5)
            except TimeoutError:
                self.precision = "told once"
                try:
                    time.sleep(5)
                finally:
                    self.precision = "told twice"

    def wait(self) -> None:
        pass


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = SimpleNamespace(
        VERSION="0", names=lambda: ["dnn"], missing=lambda device: None, use_threads=lambda count: None,
        create=lambda *arguments: None, load=lambda *arguments: None, place=lambda device: device, Step=Step,
    )  # fmt: skip
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: True if name == "torch" else find(name, *a)
    )
    monkeypatch.setitem(sys.modules, "fp16engine.bench.torch_models", peers)
    monkeypatch.setattr("fp16engine.bench.torch_models", peers, raising=False)
    monkeypatch.setattr("fp16engine.bench.deadline.AGAIN", 0.1)


def test_the_others_are_measured(torch: None) -> None:
    small: dict[str, Any] = {
        "image_size": 8,
        "channels": 1,
        "device": "reference",
        "rounds": 1,
        "seconds": 0.001,
    }
    found = step.run("dnn", 2, ("fp32",), peer="torch", peer_seconds=0.2, **small)
    assert [row["name"] for row in found["contenders"]] == ["fp32", "torch-fp32"]
    assert found["peer"]["left_out"] == {
        "bf16": "RuntimeError: no kernel for this type",
        "fp16": "TimeoutError: not done after 0.2 s",
    }
    with pytest.raises(ValueError, match="peer_seconds must be a finite number > 0, got 0"):
        step.run("dnn", 2, ("fp32",), peer="torch", peer_seconds=0, **small)


def test_the_command_names_them(torch: None, capsys: pytest.CaptureFixture[str]) -> None:
    argv = "bench step --model dnn --device reference --precision fp32 --image-size 8 --batch-size 2"
    pace = "--rounds 1 --seconds 0.001 --peer torch --peer-seconds 0.2"
    assert main([*argv.split(), *pace.split()]) == 0
    assert "Left out: torch-fp16: TimeoutError: not done after 0.2 s" in capsys.readouterr().out


def test_a_limit_leaves_nothing_behind() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with at_most(60), at_most(None):
        pass
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL) == (0, 0)
