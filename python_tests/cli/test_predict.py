"""The command line from a folder of photos to the class of a new one, without naming the data again."""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import Image, chunk

from fp16engine.cli import main

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
OWN = ["--device", "reference", "--model", "dnn", "--epochs", "12", "--batch-size", "8", "--lr", "0.02"]


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def photo(seed: int, colour: tuple[int, int, int]) -> Any:
    rng = np.random.default_rng(seed)
    width, height = rng.integers(12, 40, 2)
    noise = rng.integers(-30, 30, (height, width, 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos of three classes, and a run on them."""
    root = tmp_path_factory.mktemp("own")
    for place, (name, colour) in enumerate(COLOURS.items()):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(10):
            photo(10 * place + i, colour).save(root / "photos" / name / f"{i}.png")
    for name in ("red", "blue"):
        photo(99, COLOURS[name]).save(root / f"new {name}.jpg")
    data = ["--data", "image_folder", "--data-dir", str(root / "photos"), "--image-size", "8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        assert main(["train", *data, "--test-share", "0.3", *OWN, "--out", str(root / "run"), "--json"]) == 0
    return root


def test_a_new_photo_gets_its_class(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [str(trained / "new red.jpg"), str(trained / "new blue.jpg")]
    assert main(["predict", str(trained / "run"), *images, "--device", "reference"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "class", "probability", "next"]
    assert [line.split()[2] for line in lines[1:]] == ["red", "blue"]
    argv = ["predict", str(trained / "run"), *images, "--device", "reference", "--json", "--csv", "out.csv"]
    assert main(argv) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["class"] for row in document["predictions"]] == ["red", "blue"]
    rows = list(csv.reader(Path("out.csv").read_text().splitlines()))
    assert rows[0] == ["image", "class", *document["classes"]] and len(rows) == 3
    for row, entry in zip(rows[1:], document["predictions"], strict=True):
        assert row[:2] == [entry["image"], entry["class"]]
        np.testing.assert_allclose([float(p) for p in row[2:]], entry["probabilities"], rtol=1e-5)
    assert main(argv) == 2 and "--csv must be a new file, got out.csv" in capsys.readouterr().err


def test_evaluate_finds_the_data_the_size_and_the_draw_again(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(trained / "run"), "--device", "reference", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    summary = json.loads((trained / "run" / "summary.json").read_text())
    assert document["test_accuracy"] == summary["test_accuracy"] and document["test_images"] == 9
    assert document["test_loss"] == pytest.approx(summary["test_loss"], rel=1e-9)
    assert [(row["class"], row["test_images"]) for row in document["classes"]] == [
        ("blue", 3), ("green", 3), ("red", 3)
    ]  # fmt: skip
    confusion = np.array(document["confusion"])
    assert confusion.sum(axis=1).tolist() == [3, 3, 3]
    assert np.trace(confusion) / 9 == document["test_accuracy"]
    assert main(["evaluate", str(trained / "run"), "--device", "reference"]) == 0
    text = capsys.readouterr().out
    assert "Each class" in text and "Test images by class (rows) and predicted class (columns)" in text


def test_predict_and_evaluate_agree_on_the_test_images(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fp16engine as fe

    predictor = fe.load(trained / "run", "reference")
    data = fe.data.image_folder(trained / "photos", 8, 0.3, progress=False)
    found = predictor.predict(data.test.images)
    assert np.mean(found.labels == data.test.labels) == predictor.evaluate(data).accuracy
    everything = predictor.predict(trained / "photos")  # the files, decoded again
    assert len(everything) == 30
    known = {image.tobytes(): label for image, label in zip(data.test.images, found.labels, strict=True)}
    from fp16engine.prediction.inputs import _file

    for name, label in zip(everything.names, everything.labels, strict=True):
        pixels = _file(Path(name), predictor.source).tobytes()
        assert known.get(pixels, label) == label


def test_data_that_moved_are_named(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(trained / "photos", tmp_path / "elsewhere")
    shutil.copytree(trained / "run", tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.json"
    path.write_text(path.read_text())
    assert main(["evaluate", "run", "--device", "reference", "--data-dir", "elsewhere", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test_images"] == 9
    argv = ["evaluate", "run", "--device", "reference", "--data-dir", "nowhere"]
    assert main(argv) == 2 and "--data-dir must be a folder or file that exists" in capsys.readouterr().err


def test_data_that_changed_are_refused_and_named_ones_warned_of(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One more file changes the draw, so that images that were trained on come into the test part."""
    shutil.copytree(trained / "photos", tmp_path / "own")
    data = ["--data", "image_folder", "--data-dir", "own", "--image-size", "8", "--limit", "20"]
    assert main(["train", *data, *OWN, "--epochs", "1", "--out", "run"]) == 0
    assert main(["evaluate", "run", "--device", "reference"]) == 0  # of a part of the data, which is the same
    capsys.readouterr()
    assert main(["evaluate", "run", "--device", "reference", "--data-dir", "own"]) == 0
    assert "warning" not in capsys.readouterr().err
    photo(77, COLOURS["red"]).save(tmp_path / "own" / "red" / "00.png")
    assert main(["evaluate", "run", "--device", "reference"]) == 2
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert (
        captured.out == ""
        and "own must hold the images and labels that the run was trained on, got others" in last
    )
    assert main(["evaluate", "run", "--device", "reference", "--data-dir", "own"]) == 0
    assert "may hold images that were trained on" in capsys.readouterr().err
    for part in ("train", "test"):
        shutil.copytree(trained / "photos", tmp_path / "parts" / part)
    assert main(["evaluate", "run", "--device", "reference", "--data-dir", "parts"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_a_folder_with_other_classes_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "photos", tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "green")
    assert main(["evaluate", str(trained / "run"), "--device", "reference", "--data-dir", "two"]) == 2
    assert (
        "two must have the classes that the run was trained on, blue, green, red" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (["nowhere.jpg"], "nowhere.jpg must be an image or a folder of images, got nothing there"),
        (["text.png"], "text.png must be a whole image, got one that is not decoded"),
        (["."], ". must hold images (.jpg"),
    ],
)
def test_wrong_images_are_one_sentence(
    trained: Path, images: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if images == ["text.png"]:
        Path("text.png").write_text("no image")
    assert main(["predict", str(trained / "run"), *images, "--device", "reference"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1 and words in captured.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--csv", "nowhere/x.csv"],
            "--csv must be in a folder that exists and can be written, got nowhere/x.csv",
        ),
        (
            ["--data", "digits"],
            "--data must be left out with {run}, which holds its own classes and normalisation",
        ),
        (["--data-dir", "nowhere"], "--data-dir must be left out with {run}, which holds its own"),
    ],
)
def test_options_that_cannot_be_used_are_refused_before_the_work(
    trained: Path,
    options: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(*_: Any) -> None:
        raise AssertionError("images were predicted")

    monkeypatch.setattr("fp16engine.prediction.Predictor.predict", work)
    run = str(trained / "run")
    assert main(["predict", run, str(trained / "new red.jpg"), "--device", "reference", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and words.format(run=run) in captured.err


@pytest.mark.parametrize(
    "argv",
    [
        ["predict", "both", "x.png"],
        ["evaluate", "both"],
        ["tolerance", "both"],
        ["export", "both", "--out", "x", "--format", "onnx"],
    ],
)
def test_a_comparison_names_its_runs(
    trained: Path, tmp_path: Path, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "run", tmp_path / "both" / "fp16")
    (tmp_path / "both" / "compare.json").write_text("{}")
    assert main(argv) == 2
    assert (
        f"both must be one run, got a comparison of fp16; name one, as {Path('both', 'fp16')}"
        in capsys.readouterr().err
    )


def test_a_bad_file_of_a_folder_is_skipped_and_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    shutil.copy(trained / "new red.jpg", folder / "red.jpg")
    (folder / "nothing.png").write_bytes(b"")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    (folder / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    bad = ["nothing.png", "bomb.png"]
    if os.name == "posix":
        (folder / "dangling.png").symlink_to("nowhere")
        os.mkfifo(folder / "fifo.png")
        bad += ["dangling.png", "fifo.png"]
    argv = ["predict", str(trained / "run"), "--device", "reference"]
    assert main([*argv, str(folder), "--json", "--csv", "out.csv"]) == 0
    captured = capsys.readouterr()
    assert f"warning: {len(bad)} files are skipped: " in captured.err and "Errno" not in captured.err
    document = json.loads(captured.out)
    assert [Path(row["image"]).name for row in document["predictions"]] == ["red.jpg"]
    assert {Path(row["image"]).name for row in document["skipped"]} == set(bad)
    assert all(Path(row["image"]).name in row["reason"] for row in document["skipped"])
    assert len(Path("out.csv").read_text().splitlines()) == 2
    for name in bad:
        assert main([*argv, str(folder / name), str(folder / "red.jpg")]) == 2
        assert name in capsys.readouterr().err
    (folder / "red.jpg").unlink()
    assert main([*argv, str(folder)]) == 2
    err = capsys.readouterr().err
    assert "new must hold an image that can be used, got none: " in err and f"and {len(bad) - 1} more" in err


def test_names_are_printed_without_control_characters(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(trained / "new red.jpg", tmp_path / "a\x1b[31mb.jpg")
    assert main(["predict", str(trained / "run"), str(tmp_path), "--device", "reference"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "a\\x1b[31mb.jpg  red" in out
    (tmp_path / "a\x1b[31mb.jpg").write_bytes(b"no image")
    assert main(["predict", str(trained / "run"), str(tmp_path), "--device", "reference"]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err and "a\\x1b[31mb.jpg must be a whole image" in err


def test_many_classes_show_the_worst_and_what_they_are_taken_for(capsys: pytest.CaptureFixture[str]) -> None:
    from fp16engine.cli.evaluate import _print_classes
    from fp16engine.prediction import Evaluation

    confusion = np.diag(np.full(30, 5))
    confusion[7, 7], confusion[7, 3] = 1, 4
    names = tuple(f"class{i:02}" for i in range(30))
    _print_classes(Evaluation(0.97, 0.1, names, np.full(30, 5), confusion))
    out = capsys.readouterr().out.splitlines()
    assert out[1] == "The 20 classes of the lowest accuracy, of 30"
    assert out[3].split() == ["class07", "5", "20.00", "%"] and len(out) == 27
    assert out[-1].split() == ["class07", "class03", "4"]
