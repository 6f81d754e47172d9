"""`fp16engine tolerance`: two checkpoints, one checkpoint under two policies, and what is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.cli import main
from fp16engine.experiments.report.labels import NOTHING
from fp16engine.numerics.tolerance import analyse


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FP16 and an FP32 run of the same network on 64 digits."""
    pytest.importorskip("fp16engine._cpu")
    folder = tmp_path_factory.mktemp("runs")
    digits = fe.data.digits().limit(64)
    for precision in ("fp16", "fp32"):
        model = fe.models.create("dnn", image_size=8, channels=1)
        trainer = fe.Trainer(model, precision, device="cpu", lr=0.05)
        trainer.fit(digits, 1, 32, folder / precision, progress=False)
    return folder


def tolerance(capsys: pytest.CaptureFixture[str], *argv: Any) -> dict[str, Any]:
    status = main(["tolerance", *map(str, argv), "--device", "cpu", "--json"])
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert status == (result["probabilities"]["delta_mean"] is None)
    return result


@pytest.mark.slow
def test_two_checkpoints(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: None) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    result = tolerance(capsys, runs / "fp32", runs / "fp16", "--out", out)
    assert (result["reference"], result["other"]) == ("fp32", "fp16")
    for kind in ("probabilities", "calibrated", "logits"):
        assert result[kind]["guaranteed_share"] <= result[kind]["agreement"]
        assert result[kind]["agreement"] == result["logits"]["agreement"]
    rows = list(csv.DictReader((out / "samples.csv").read_text().splitlines()))
    assert len(rows) == result["test_images"]
    share = np.mean([row["guaranteed"] == "1" for row in rows])
    assert share == result["probabilities"]["guaranteed_share"]
    assert json.loads((out / "tolerance.json").read_text()) == result
    assert (out / "delta-gamma.png").exists()
    assert main(["tolerance", str(runs / "fp32"), "--out", str(out)]) == 2
    assert "--out must be a folder without tolerance.json, got " in capsys.readouterr().err


def test_a_network_of_nan_leaves_the_other_its_accuracy(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fe.models.create("dnn", image_size=8, channels=1)
    wild = fe.Trainer(model, "fp16", device="cpu", lr=1e9)
    wild.fit(fe.data.digits().limit(64), 1, 32, tmp_path / "wild", progress=False)
    sound = tolerance(capsys, runs / "fp16", runs / "fp32")["accuracy"][0]
    assert sound is not None and sound > 0
    found = tolerance(capsys, runs / "fp16", tmp_path / "wild", "--out", tmp_path / "out")
    assert (found["accuracy"], found["temperature"]) == ([sound, None], [None, None])
    for kind in ("probabilities", "calibrated", "logits"):
        assert {found[kind][name] for name in ("delta_mean", "guaranteed_share", "agreement")} == {None}
    rows = list(csv.DictReader((tmp_path / "out" / "samples.csv").read_text().splitlines()))
    assert {row["other_class"] for row in rows} == {""}
    assert "" not in {row["reference_class"] for row in rows}
    for pair, names in (([tmp_path / "wild"], "fp32 and fp16"), ([tmp_path / "wild", runs / "fp32"], "fp16")):
        assert main(["tolerance", *map(str, pair), "--device", "cpu"]) == 1
        text = capsys.readouterr().out
        assert f"Nothing can be compared: the outputs of {names} are not finite." in text
        table = text.split("lock step")[0].splitlines()
        assert [line.split()[1:] for line in table if line.startswith("  ")][1:] == [[NOTHING] * 6] * 3
        assert f"temperatures {NOTHING}, {NOTHING}." in text


def test_the_probabilities_are_those_the_trainer_predicts(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tolerance(capsys, runs / "fp32", runs / "fp16")
    digits = fe.data.digits()
    pair = []
    for precision in ("fp32", "fp16"):
        checkpoint = fe.Checkpoint.load(runs / precision)
        trainer = fe.Trainer(checkpoint.create_model("cpu"), precision, device="cpu")
        train = fe.data.Split(digits.train.images[:64], digits.train.labels[:64])
        data = fe.data.Dataset("digits", train, digits.test, digits.classes)
        pair.append(trainer.predict(data.normalised("test", trainer.precision.storage)))
    assert result["probabilities"] == analyse(*pair).to_dict()


def test_one_checkpoint_under_two_policies(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tolerance(capsys, runs / "fp16", "--limit", "50")
    assert (result["reference"], result["other"], result["test_images"]) == ("fp32", "fp16", 50)
    assert result["lockstep"]["first"] is None
    assert (
        result["probabilities"]["delta_max"]
        < tolerance(capsys, runs / "fp16", runs / "fp32")["probabilities"]["delta_max"]
    )
    same = tolerance(capsys, runs / "fp16", "--reference-precision", "fp16")
    assert same["probabilities"]["delta_max"] == 0 and same["lockstep"] is None


def test_the_table_names_what_agrees(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tolerance", str(runs / "fp32"), "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "must agree" in text and "Every layer stays within its bound" in text
