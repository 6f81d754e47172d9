"""Tables of classes and disagreeing images: counted again by hand, and all in the report."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest

from fp16engine.data import Dataset, Split
from fp16engine.data.origin import Origin
from fp16engine.experiments import classes, compare
from fp16engine.experiments.report import gallery
from fp16engine.numerics.confusion import MOST_ROWS

NAMES = ("<cat>", "dog", "owl")


def data(count: int = 6, names: tuple[str, ...] = NAMES) -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 5, 4, 3), np.uint8)
    labels = np.arange(count) % len(names)
    split = Split(images, labels, tuple(f"test/{names[label]}/{i}.jpg" for i, label in enumerate(labels)))
    return Dataset("made", split, split, names)


def points(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


REFERENCE = points(
    [0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [0.5, 0.4, 0.1], [0.4, 0.5, 0.1], [1, 0, 0]
)
OTHER = points(
    [0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6], [0.4, 0.5, 0.1], [0.4, 0.5, 0.1], [np.nan] * 3
)


def test_classes_are_counted() -> None:
    found = classes.per_class({"fp32": REFERENCE, "fp16": OTHER}, data())
    assert found["names"] == list(NAMES) and found["test_images"] == [2, 2, 2]
    assert found["accuracy"] == {"fp32": [1.0, 1.0, 0.5], "fp16": [0.5, 0.5, 0.5]}
    assert found["confusion"]["fp32"] == [[2, 0, 0], [0, 2, 0], [1, 0, 1]]
    assert found["confusion"]["fp16"] == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]  # nothing is no class
    lonely = Dataset("x", data().train, data(2).test, NAMES)
    assert classes.per_class({"fp32": REFERENCE[:2]}, lonely)["accuracy"]["fp32"] == [1.0, 1.0, None]


def test_images_on_which_two_disagree_come_by_distance() -> None:
    (pair,) = classes.disagreements({"fp16": OTHER, "fp32": REFERENCE}, data())
    assert (pair["reference"], pair["other"], pair["count"]) == ("fp32", "fp16", 3)
    assert [image["index"] for image in pair["images"]] == [5, 1, 3]
    assert pair["images"][0]["other"] == {"class": None, "probability": None}
    assert pair["images"][1] == {
        "index": 1,
        "name": "test/dog/1.jpg",
        "class": "dog",
        "reference": {"class": "dog", "probability": pytest.approx(0.6)},
        "other": {"class": "<cat>", "probability": pytest.approx(0.7)},
    }
    assert classes.disagreements({"fp16": OTHER}, data()) == []
    same = classes.disagreements({"fp32": REFERENCE, "mp": REFERENCE}, data())
    assert same[0]["count"] == 0 and same[0]["images"] == []


def test_many_disagreements_and_classes_are_bounded() -> None:
    many = data(300, tuple(f"c{i}" for i in range(150)))
    rng = np.random.default_rng(0)
    p, q = rng.random((2, 300, 150), np.float32)
    (pair,) = classes.disagreements({"fp32": p, "fp16": q}, many)
    assert pair["count"] > 200 and len(pair["images"]) == classes.MOST_IMAGES
    found = classes.per_class({"fp32": p}, many)
    assert found["confusion"] is None
    rows = gallery.class_rows(found, "fp32")
    assert len(rows) == MOST_ROWS and rows[0]["accuracy"]["fp32"] == 0
    assert len(gallery.class_rows({**found, "accuracy": {}}, None)) == MOST_ROWS


def test_pictures_are_the_images() -> None:
    image = pytest.importorskip("PIL.Image")
    made = data()
    shown = gallery.pictures(made, [4])
    with image.open(io.BytesIO(base64.b64decode(shown[4].removeprefix("data:image/png;base64,")))) as found:
        np.testing.assert_array_equal(np.asarray(found), made.test.images[4])
    gray = Split(np.full((1, 3, 3, 1), 16, np.uint8), np.zeros(1, np.int64))
    digit = gallery.pictures(Dataset("x", gray, gray, ("0",), Origin("digits")), [0])
    with image.open(io.BytesIO(base64.b64decode(digit[0].partition(",")[2]))) as found:
        assert (np.asarray(found) == 255).all()


@pytest.mark.slow
def test_the_report_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jinja2")
    plots = pytest.importorskip("fp16engine.experiments.report.plots")
    monkeypatch.setattr(plots, "save", lambda figure, folder, name: "<svg></svg>")
    noisy = data(60)
    made = Dataset("made", noisy.train, noisy.test, NAMES, notes=("3 files are skipped: <b>x</b>.",))
    summary = compare.run(
        "dnn", made, ("hbfp2", "fp32"), 2, 8, 0.05, out=tmp_path / "out", device="reference", progress=False
    )  # fmt: skip
    (pair,) = summary["disagreements"]
    page = (tmp_path / "out" / "report.html").read_text()
    shown = re.findall(r'<img src="data:image/png;base64,[^"]+" alt="Test image ([^":]+):', page)
    assert shown == [image["name"].replace("<", "&lt;").replace(">", "&gt;") for image in pair["images"]]
    assert "<cat>" not in page and "&lt;cat&gt;" in page and "<h2>Each class</h2>" in page
    assert "3 files are skipped: &lt;b&gt;x&lt;/b&gt;." in page and summary["data_notes"] == list(made.notes)
    folders = [tmp_path / "out" / name / "probabilities" for name in ("fp32", "hbfp2")]
    p, q = (np.load(folder / "epoch-0002.npy") for folder in folders)
    assert 0 < pair["count"] == np.count_nonzero(p.argmax(1) != q.argmax(1))
