"""`compare --torch FILE.py:FUNCTION` and `export --torch`: a network of the user's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fp16engine import cli

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fp16engine[torch]'")

FILE = """
from dataclasses import dataclass
from torch import nn
import helper

@dataclass
class Sizes:
    hidden: int = helper.HIDDEN

def build(num_classes, channels):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(),
        nn.Linear(144, Sizes().hidden), nn.ReLU(), nn.Linear(16, num_classes),
    )

def prelu():
    return nn.Sequential(nn.PReLU(), nn.CELU())

def fails():
    raise KeyError("none")

def nothing():
    return None
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("HIDDEN = 16\n")
    path = tmp_path / "net.py"
    path.write_text(FILE)
    return path


def command(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    status = cli.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def compare(capsys: pytest.CaptureFixture[str], out: Path, name: Any, *options: Any) -> tuple[int, str, str]:
    given = (
        "--torch",
        name,
        "--precision",
        "fp16,fp32",
        "--epochs",
        2,
        "--limit",
        64,
        "--out",
        out,
        "--json",
    )
    return command(capsys, "compare", *given, *options)


@pytest.mark.slow
def test_it_is_compared_resumed_and_exported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: Path
) -> None:
    out = tmp_path / "out"
    status, text, _ = compare(capsys, out, f"{file}:build")
    summary = json.loads(text)
    assert status == 0
    assert summary["model"] == "net.py:build"
    assert [run["status"] for run in summary["runs"]] == ["finished", "finished"]
    assert summary["tolerance"]["delta_max"] < 0.5
    status, text, _ = compare(capsys, out, f"{file}:build", "--resume", "--seeds", 2)
    again = json.loads(text)
    assert (status, [run["seed"] for run in again["runs"]]) == (0, [0, 0, 1, 1])
    first, other = again["runs"][0], again["runs"][2]
    assert first["test_loss"] == summary["runs"][0]["test_loss"] != other["test_loss"]

    weights = tmp_path / "weights.safetensors"
    arguments = ("export", out / "fp16", "--format", "safetensors", "--out", weights)
    status, _, error = command(capsys, *arguments)
    assert status == 2
    assert "--torch must name the function" in error
    assert command(capsys, *arguments, "--torch", f"{file}:build")[0] == 0
    assert weights.exists()

    file.write_text(FILE + "\n")
    status, _, error = compare(capsys, out, f"{file}:build", "--resume")
    assert status == 2
    assert "model_digest" in error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("prelu", "2 others: 0 (PReLU): no layer of ours does this; 1 (CELU)"),
        ("fails", "must build a module, got KeyError: 'none'"),
        ("nothing", "must be a torch.nn.Module, got None"),
        ("absent", "must be a function, got None"),
        ("no name", "must be FILE.py:FUNCTION"),
    ],
)
def test_what_is_no_network(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: Path, name: str, words: str
) -> None:
    status, _, error = compare(capsys, tmp_path / "out", f"{file}:{name}")
    assert status == 2
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_that_fails_or_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: Path
) -> None:
    file.write_text("1 / 0")
    assert "must run, got ZeroDivisionError" in compare(capsys, tmp_path / "out", f"{file}:build")[2]
    assert "a file that exists" in compare(capsys, tmp_path / "out", f"{tmp_path}/none.py:build")[2]
    status, _, error = compare(capsys, tmp_path / "out", f"{file}:build", "--model", "dnn")
    assert status == 2
    assert "--model must not be given with --torch, got dnn" in error
