"""`fp16engine export`: a run as a file for other programs, checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import cli
from fp16engine.interop.onnx_out import check
from fp16engine.train import checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    model = fe.models.create("resnet20", image_size=8, channels=1)
    fe.Trainer(model).fit(fe.data.digits().limit(64), 1, 16, out=folder, progress=False)
    return folder


def export(capsys: pytest.CaptureFixture[str], *arguments: Any, status: int = 0) -> tuple[Any, str]:
    assert cli.main(["export", *map(str, arguments)]) == status
    printed = capsys.readouterr()
    return (json.loads(printed.out) if "--json" in arguments else printed.out), printed.err


@pytest.mark.parametrize("options", [(), ("--dtype", "float32", "--normalise")])
def test_onnx_is_compared_on_test_images(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path, options: tuple[str, ...]
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    out = tmp_path / "net.onnx"
    found, _ = export(capsys, run, "--format", "onnx", "--out", out, "--limit", 64, "--json", *options)
    assert found["check"] == "passed"
    assert (found["images"], found["file"], found["bytes"]) == (64, str(out), out.stat().st_size)
    assert found["same_class"] >= 63
    assert found["ulp"] < 16


def test_without_onnxruntime_it_says_that_nothing_was_compared(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(check, "available", lambda: False)
    text, _ = export(capsys, run, "--format", "onnx", "--out", tmp_path / "net.onnx")
    assert "Not compared on images: onnxruntime is not installed" in text


def test_without_pytorch_the_format_torch_says_what_to_install(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fp16engine.cli.export.find_spec", lambda name: None)
    out = tmp_path / "net.pt"
    _, said = export(capsys, run, "--format", "torch", "--out", out, status=2)
    assert "--format torch needs PyTorch" in said and "pip install 'fp16engine[torch]'" in said
    assert not out.exists()


def test_a_run_on_arrays_is_exported_though_its_images_are_on_no_disk(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1)).astype(np.uint8)
    trainer = fe.Trainer(fe.models.create("dnn", 2, image_size=8, channels=1))
    trainer.fit((x, np.arange(40) % 2), 1, 8, out=tmp_path / "run", progress=False)
    out = tmp_path / "net.onnx"
    found, _ = export(capsys, tmp_path / "run", "--format", "onnx", "--out", out, "--json")
    assert found["check"] == "not done" and "arrays" in found["reason"]
    assert out.stat().st_size > 0


def test_a_file_of_other_classes_fails(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(check, "available", lambda: True)
    monkeypatch.setattr(check, "checked", lambda path, x, y: check.Checked(len(x), len(x) // 2, 1.0, 9.0))
    text, _ = export(capsys, run, "--format", "onnx", "--out", tmp_path / "net.onnx", "--limit", 8, status=1)
    assert "50.00 %" in text


def test_weights_in_safetensors(capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path) -> None:
    from safetensors import safe_open

    out = tmp_path / "model.safetensors"
    found, _ = export(capsys, run, "--format", "safetensors", "--out", out, "--json")
    assert found["check"] == "passed"
    with safe_open(out, "np") as file:
        facts = json.loads(file.metadata()["fp16engine"])
        kernels = file.get_tensor("stem.weight")
    assert facts["classes"] == list("0123456789")
    model = fe.load(run).model
    assert np.array_equal(kernels, model.state_dict()["stem.weight"].transpose(0, 3, 1, 2))


def test_a_run_of_an_earlier_version_takes_its_classes_from_the_named_data(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path
) -> None:
    from safetensors import safe_open

    old = tmp_path / "old"
    shutil.copytree(run, old)
    body = json.loads((old / "checkpoint.json").read_text())["checkpoint"]
    del body["images"]
    body["run"]["data"]["name"] = "someones-digits"  # of which no one knows where they are
    (old / "checkpoint.json").write_text(json.dumps({"sha256": checkpoint._digest(body), "checkpoint": body}))
    out = tmp_path / "model.safetensors"
    _, text = export(capsys, old, "--format", "safetensors", "--out", out, status=2)
    assert "give its data set 'someones-digits'" in text and "--data" in text
    export(capsys, old, "--format", "safetensors", "--out", out, "--data", "digits")
    with safe_open(out, "np") as file:
        assert json.loads(file.metadata()["fp16engine"])["classes"] == list("0123456789")


def test_weights_of_torch_save(capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path) -> None:
    torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
    found, _ = export(capsys, run, "--format", "torch", "--out", tmp_path / "net.pt", "--json")
    state = torch.load(tmp_path / "net.pt", weights_only=True)
    assert (found["check"], found["tensors"]) == ("passed", len(state))


def test_wrong_command_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path) -> None:
    out = tmp_path / "net"
    _, text = export(capsys, run, "--format", "safetensors", "--out", out, "--dtype", "float16", status=2)
    assert "--dtype must be given with --format onnx, got safetensors" in text
    _, text = export(capsys, run, "--format", "torch", "--out", out, "--data", "digits", status=2)
    assert "--data must be given with --format onnx, got torch" in text
    _, text = export(capsys, run, "--format", "safetensors", "--out", out, "--limit", 9, status=2)
    assert "--limit must be given with --format onnx, got safetensors" in text
    _, text = export(capsys, tmp_path, "--format", "onnx", "--out", out, status=2)
    assert "must hold a checkpoint" in text
    assert not out.exists()
