"""`fp16engine train --recipe`: what it trains with, what options change of it, and a run from start to
end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.cli import main, options
from fp16engine.cli.commands import build
from fp16engine.optim import SGD
from fp16engine.train import recipes


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def filled(*argv: str) -> Any:
    arguments = build().parse_args(["train", *argv])
    options.fill(arguments)
    return arguments


def test_names_on_the_command_line_are_those_of_the_engine() -> None:
    assert recipes.names() == options.RECIPES


@pytest.mark.parametrize("name", recipes.names())
def test_the_command_line_gives_the_recipe(name: str) -> None:
    arguments, recipe = filled("--recipe", name), recipes.get(name)
    assert options.train_config(arguments) == recipe.training
    for option in ("model", "data", "epochs", "batch_size"):
        assert getattr(arguments, option) == getattr(recipe, option)
    assert arguments.loss_scale == "auto"
    assert filled("--recipe", name, "--precision", "fp32").loss_scale is None
    assert filled("--recipe", name, "--precision", "mp").loss_scale == "policy"


def test_options_come_before_the_recipe() -> None:
    argv = (
        "--recipe airbench94 --data image_folder --epochs 2 --batch-size 128 --label-smoothing 0 "
        "--schedule cosine --augment none --weight-decay 0 --momentum 0.5 --loss-scale policy"
    )
    changed = filled(*argv.split())
    config = options.train_config(changed)
    assert (changed.data, changed.epochs, changed.loss_scale) == ("image_folder", 2, "policy")
    assert (config.label_smoothing, config.schedule, config.augment) == (0.0, "cosine", None)
    assert (config.weight_decay, config.momentum) == (0.0, 0.5)
    assert config.lr == recipes.get("airbench94").training.lr / 8
    assert config.refinements == recipes.get("airbench94").training.refinements
    assert options.train_config(filled("--recipe", "airbench94", "--lr", "2")).lr == 2.0


def test_without_a_recipe_nothing_has_changed() -> None:
    config = options.train_config(filled())
    assert config == fe.train.TrainConfig(lr=0.05, schedule="cosine")
    assert options.train_config(filled("--optimizer", "muon")).lr == 0.02
    assert options.train_config(filled("--optimizer", "adam")).lr == 1e-3
    assert options.train_config(filled("--nesterov")).nesterov


@pytest.mark.parametrize("batch", [1024, 256])
def test_rates_are_those_of_the_sum_over_a_batch(batch: int) -> None:
    """The first steps of the published script, in float64, against ours: sums there, means here."""
    momentum, rng = 0.85, np.random.default_rng(0)
    kilostep = 1024 * (1 + 1 / (1 - momentum))
    lr, decay = 11.5 / kilostep, 0.0153 * batch / kilostep
    training = recipes.get("airbench94", batch).training
    for factor in (1.0, 64.0):
        w = m = rng.normal(size=4)
        p = fe.tensor(w, "float32", "reference", requires_grad=True)
        m = np.zeros(4)
        optimizer = SGD([p], training.lr, momentum, nesterov=True, weight_decay=training.weight_decay)
        optimizer.lr_factors = [factor]
        for _ in range(3):
            mean = rng.normal(size=4) * 1e-3
            p.grad = fe.tensor(mean, "float32", "reference")
            optimizer.step()
            rate = lr * factor
            g = mean * batch + decay / rate * w
            m = momentum * m + g
            w = w - rate * (g + momentum * m)
        np.testing.assert_allclose(p.numpy(), w, rtol=1e-5)


def test_the_head_of_muon_steps_as_with_the_published_scale() -> None:
    """Outputs W x / 256 there, V x / 9 here with V = 9 / 256 W: equal outputs before and after a step."""
    training = recipes.get("airbench94-muon").training
    assert training.refinements is not None
    rate = training.lr * training.refinements.factor("head.weight") / 2000  # of the sum
    w, x, dout = np.array([0.5, -1.0]), np.array([3.0, 2.0]), 0.25
    v = w * 9 / 256
    w = w - 0.67 * dout * x / 256
    v = v - rate * dout * x / 9
    np.testing.assert_allclose(v @ x / 9, w @ x / 256, rtol=1e-12)


def folder_of_images(root: Path) -> Path:
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, name in enumerate("ab"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 120, (32, 32, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.mark.slow
@pytest.mark.usefixtures("cpu")
@pytest.mark.parametrize("name", recipes.names())
def test_a_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In pure FP16, which --strict sees to; resumed bit for bit; evaluated over the same views."""
    folder = folder_of_images(tmp_path / "images")
    own = f"--recipe {name} --data image_folder --data-dir {folder} --epochs 2 --batch-size 4 --strict --json"
    assert main(["train", *own.split(), "--out", "whole"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["precision"] == "fp16+auto-scale" and summary["model"] == "airbench94"
    assert summary["audit"]["float32_tensors"] == 0
    assert 0 <= summary["views_accuracy"] <= 1
    assert summary["refinements"]["views"] == "mirror-shift"
    checkpoint = fe.Checkpoint.load("whole")
    kinds = {name: str(value.dtype) for name, value in checkpoint.tensors.items()}
    assert {kind for name, kind in kinds.items() if not name.endswith("updates")} == {"float16"}
    # images of more than one kind: the whitening layer is that of the data, not the random one
    random = fe.models.create("airbench94", 2).state_dict()["whitening.weight"]
    assert not np.allclose(checkpoint.tensors["model.whitening.weight"], random, atol=0.1)
    assert main(["evaluate", "whole", "--json", *own.split()[2:6]]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["test_accuracy"] == summary["test_accuracy"]
    assert result["views_accuracy"] == summary["views_accuracy"]


def test_wrong_options(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, message in (
        ("--recipe airbench95", "airbench94"),
        (
            "--recipe airbench94 --optimizer adam",
            "--optimizer must be sgd with --recipe airbench94, got 'adam'",
        ),
        ("--recipe airbench94 --model dnn", "--model must be airbench94 with --recipe airbench94, got 'dnn'"),
        ("--recipe airbench94 --data digits", "image_size must be >= 25x25 for airbench94, got 8x8"),
        ("--optimizer adam --momentum 0.5", "only sgd and muon have it"),
    ):
        assert main(["train", *argv.split(), "--out", "out"]) == 2
        captured = capsys.readouterr()
        assert message in captured.err and not captured.out and len(captured.err.splitlines()) == 1
        assert not Path("out").exists()
