"""The command line's --accumulate and --weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fp16engine as fe
from fp16engine import functional as F
from fp16engine.cli import main

TINY = ["train", "--model", "dnn", "--limit", "64", "--epochs", "1", "--batch-size", "16", "--json"]


def test_accumulate_and_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main([*TINY, "--accumulate", "2", "--out", str(first)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["accumulate"] == 2
    saved = fe.Checkpoint.load(first)
    assert saved.step == 2  # 64 images in batches of 16, two for an update

    assert main([*TINY, "--weights", str(first), "--out", str(second), "--lr", "1e-30"]) == 0
    capsys.readouterr()
    again = fe.Checkpoint.load(second)
    weights = [name for name in saved.tensors if name.startswith("model.")]
    assert all(saved.tensors[name].tobytes() == again.tensors[name].tobytes() for name in weights)

    assert main([*TINY, "--model", "vit1", "--weights", str(first), "--out", str(tmp_path / "no")]) == 2
    assert "must be of this network: " in capsys.readouterr().err
    assert main([*TINY, "--weights", str(tmp_path / "none"), "--out", str(tmp_path / "no")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_evaluate_says_which_loss_it_computes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A function is not in the checkpoint, so the run's own loss cannot be computed again."""
    data = fe.data.digits().limit(32)
    runs: dict[str, dict[str, Any]] = {
        "own": {"loss": lambda x, y: F.cross_entropy(x, y) * 2.0},
        "plain": {},
    }
    for name, options in runs.items():
        model = fe.models.create("dnn", image_size=8, channels=1)
        fe.Trainer(model, **options).fit(data, 1, out=tmp_path / name, progress=False)
        assert main(["evaluate", str(tmp_path / name), "--limit", "32"]) == 0
        assert ("test cross-entropy" in capsys.readouterr().out) == (name == "own")
