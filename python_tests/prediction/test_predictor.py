"""A run is used: the same classes as its evaluation, whatever form the images come in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.data import Dataset, Split
from fp16engine.data.origin import Origin
from fp16engine.errors import CheckpointError, DataError
from fp16engine.train import checkpoint
from fp16engine.train.source import ImageSource

Run = tuple[Path, Dataset, "fe.Predictor"]


def colours(count: int = 60) -> Dataset:
    """Images 7x5 whose strongest channel tells the class."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        labels = np.arange(n) % 3
        images = rng.integers(0, 120, (n, 7, 5, 3))
        images[np.arange(n), :, :, labels] += 100
        return Split(images.astype(np.uint8), labels)

    origin = Origin("image_folder", "/somewhere/else", {"image_size": (7, 5), "seed": 3})
    return Dataset("colours", split(count), split(30), ("red", "green", "blue"), origin)


def train(data: Dataset, out: Path, precision: str = "fp16", device: str = "reference", **model: Any) -> Path:
    settings = {
        "num_classes": len(data.classes),
        "image_size": data.image_size,
        "channels": data.channels,
        **model,
    }
    trainer = fe.Trainer(fe.models.create("dnn", **settings), precision, lr=0.02, device=device)
    trainer.fit(data, 2, 20, out=out, progress=False)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    data = colours()
    out = train(data, tmp_path_factory.mktemp("run"))
    return out, data, fe.load(out, "reference")


def without(run: Path, to: Path, *entries: str) -> Path:
    """A copy of a run as an earlier version wrote it."""
    to.mkdir()
    for path in run.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    body = json.loads((run / "checkpoint.json").read_text())["checkpoint"]
    for entry in entries:
        del body[entry]
    return rewritten(to, body)


def rewritten(run: Path, body: dict[str, Any]) -> Path:
    (run / "checkpoint.json").write_text(json.dumps({"sha256": checkpoint._digest(body), "checkpoint": body}))
    return run


def test_a_predictor_knows_its_run(run: Run) -> None:
    _, data, predictor = run
    assert predictor.classes == ("red", "green", "blue") and predictor.image_size == (7, 5)
    assert predictor.precision.name == "fp16" and predictor.model.num_parameters() > 0
    assert predictor.source == ImageSource.of(data)


@pytest.mark.parametrize("precision", ["fp16", "fp32", "mp", "booster"])
def test_single_images_get_the_classes_and_bits_of_the_evaluation(tmp_path: Path, precision: str) -> None:
    data = colours()
    out = train(data, tmp_path / "run", precision)
    predictor = fe.load(out, "reference")
    whole = predictor.predict(data.test.images)
    for index, image in enumerate(data.test.images):
        one = predictor.predict(image)
        assert one.labels.tolist() == [whole.labels[index]]
        np.testing.assert_array_equal(one.probabilities[0], whole.probabilities[index])
    found = predictor.evaluate(data)
    summary = json.loads((out / "summary.json").read_text())
    assert found.accuracy == summary["test_accuracy"] == np.mean(whole.labels == data.test.labels)
    assert found.loss == pytest.approx(summary["test_loss"], rel=1e-12)


def test_a_real_network_on_every_test_image_of_the_digits(tmp_path: Path) -> None:
    data = fe.data.digits()
    model = fe.models.create("resnet20", image_size=8, channels=1)
    trainer = fe.Trainer(model, lr=0.05)
    trainer.fit(data.limit(128), 1, 64, out=tmp_path, progress=False)
    predictor = fe.load(tmp_path)
    given = [predictor.predict(image).labels[0] for image in data.test.images]
    right = np.asarray(given) == data.test.labels
    assert right.mean() == predictor.evaluate(data).accuracy
    np.testing.assert_array_equal(predictor.predict(data.test.images).labels, given)


def test_confusion_and_accuracy_per_class_count_what_was_predicted(run: Run) -> None:
    _, data, predictor = run
    mixed = np.array([0] * 15 + [1] * 10 + [2] * 5)  # labels that the network cannot know
    test = Split(data.test.images, mixed)
    found = predictor.evaluate(Dataset("mixed", data.train, test, data.classes))
    expected = np.zeros((3, 3), np.int64)
    for true, given in zip(mixed, predictor.predict(data.test.images).labels, strict=True):
        expected[true, given] += 1
    assert (expected != expected.T).any()
    np.testing.assert_array_equal(found.confusion, expected)
    shares = expected.diagonal() / (15, 10, 5)
    assert found.per_class() == list(zip(data.classes, (15, 10, 5), shares.tolist(), strict=True))
    assert found.accuracy == expected.trace() / 30


def test_all_forms_of_an_image_agree(run: Run, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    _, data, predictor = run
    expected = predictor.predict(data.test.images[:4])
    folder = tmp_path / "new"
    for i, pixels in enumerate(data.test.images[:4]):
        (folder / str(i % 2)).mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels).save(folder / str(i % 2) / f"{i}.png")
    (folder / "notes.txt").write_text("none")
    suffixes = ("bmp", "gif", "tif")
    for suffix in suffixes:
        image.fromarray(data.test.images[1]).save(tmp_path / f"1.{suffix}")
    forms: dict[str, tuple[Any, list[int]]] = {
        "array": (data.test.images[:4], [0, 1, 2, 3]),
        "list of arrays": (list(data.test.images[:4]), [0, 1, 2, 3]),
        "one array": (data.test.images[2], [2]),
        "picture": (image.fromarray(data.test.images[1]), [1]),
        "with alpha": (image.fromarray(data.test.images[1]).convert("RGBA"), [1]),
        "path": (folder / "1" / "3.png", [3]),
        "text": (str(folder / "0" / "0.png"), [0]),
        "folder": (folder, [0, 2, 1, 3]),
        "other kinds": ([tmp_path / f"1.{suffix}" for suffix in suffixes], [1, 1, 1]),
        "mixture": (
            [folder / "1", image.fromarray(data.test.images[0]), data.test.images[2:4]],
            [1, 3, 0, 2, 3],
        ),
    }
    for form, (x, order) in forms.items():
        found = predictor.predict(x)
        np.testing.assert_array_equal(found.labels, expected.labels[order], form)
        np.testing.assert_array_equal(found.probabilities, expected.probabilities[order], form)
        assert found.classes == tuple(expected.classes[i] for i in order) and len(found.names) == len(order)
    assert predictor.predict(folder).names[0] == str(folder / "0" / "0.png")
    assert predictor.predict(forms["mixture"][0]).names[2:] == ("x[1]", "x[2][0]", "x[2][1]")


def test_other_sizes_and_channels_are_taken_as_a_folder_of_images_takes_them(
    run: Run, tmp_path: Path
) -> None:
    image = pytest.importorskip("PIL.Image")
    from fp16engine.data import picture

    predictor = run[2]
    gray = np.random.default_rng(1).integers(0, 256, (40, 31), np.uint8)
    seen = picture.of_image(image.fromarray(gray), (7, 5), gray=False).pixels
    expected = predictor.predict(seen).probabilities
    for x in (gray, gray[..., None], gray[None, ..., None], np.stack([gray] * 3, -1), image.fromarray(gray)):
        np.testing.assert_array_equal(predictor.predict(x).probabilities, expected)
    for i in range(3):
        for label in "ab":
            (tmp_path / label).mkdir(exist_ok=True)
            image.fromarray(gray).save(tmp_path / label / f"{i}.png")
    folder = fe.data.image_folder(tmp_path, image_size=(7, 5), cache=False, progress=False)
    np.testing.assert_array_equal(np.repeat(folder.test.images[0], 3, -1), seen)


def test_batches_do_not_change_a_bit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from fp16engine.prediction import inputs, predictor

    _, data, trained = run
    expected = trained.predict(data.test.images).probabilities
    for module in (inputs, predictor):
        monkeypatch.setattr(module, "BATCH", 7)
    np.testing.assert_array_equal(trained.predict(list(data.test.images)).probabilities, expected)


def test_pictures_of_digits_are_brought_to_their_scale(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    data = fe.data.digits().limit(64)
    predictor = fe.load(train(data, tmp_path / "run"), "reference")
    pixels = data.test.images[0, ..., 0]
    picture = image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8))
    np.testing.assert_array_equal(
        predictor.predict(picture).probabilities, predictor.predict(pixels).probabilities
    )


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((7, 5, 3), np.float32), "x must be uint8 pixels, got float32"),
        (np.zeros((3, 7, 5), np.uint8), r"x must be of shape \(N, H, W, C\), got .* channels first"),
        (np.zeros((2, 3, 7, 5), np.uint8), "channels first"),
        ([np.zeros((3, 7, 5), np.uint8)], r"x\[0\] must be of shape .* channels first"),
        (
            np.zeros((20, 28, 28), np.uint8),
            r"x must be of shape \(H, W\), \(H, W, C\) or \(N, H, W, C\), got",
        ),
        (np.zeros((0, 7, 5, 3), np.uint8), "x must be of shape"),
        (np.zeros((7, 5, 8), np.uint8), "x must be of shape"),
        ([], "x must hold at least one image, got none"),
        ([[]], "x must hold at least one image, got none"),
        (3, "x must be a path, a PIL image, an array .* got int"),
        ([None], r"x\[0\] must be a path, .* got NoneType"),
        ("", "x must be a path, got ''"),
        ("nowhere.png", "nowhere.png must be an image or a folder of images, got nothing there"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_image_is_named(run: Run, x: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=words):
        run[2].predict(x)


def test_files_that_are_no_images_are_named(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    for x, words in (
        (tmp_path / "a.png", "a.png must be a whole image"),
        (tmp_path / "empty", r"empty must hold images \(.jpg, .*\), got none"),
        (tmp_path / "self.png", "self.png must be a regular file, got a link to itself"),
    ):
        with pytest.raises(DataError, match=words):
            run[2].predict(x)


def test_outputs_that_are_not_finite_are_no_class(run: Run) -> None:
    out, data, _ = run
    predictor = fe.load(out, "reference")
    for tensor in predictor.model.parameters():
        tensor.data[...] = np.nan
    found = predictor.predict(data.test.images[:2])
    assert found.labels.tolist() == [-1, -1] and found.classes == ("", "")
    result = predictor.evaluate(data)
    assert np.isnan(result.accuracy) and result.confusion.sum() == 0 and result.counts.tolist() == [10] * 3


def test_outputs_are_the_networks_own(run: Run) -> None:
    _, data, predictor = run
    moments = predictor.source.mean, predictor.source.std
    images = replace(data, moments=moments).normalised("test", "float16")
    logits = predictor.outputs(images)
    assert logits.shape == (30, 3) and logits.dtype == np.float16
    assert np.array_equal(logits.argmax(axis=1), predictor.predict(data.test.images).labels)


def test_evaluation_on_other_classes_is_refused(run: Run) -> None:
    _, data, predictor = run
    other = Dataset("other", data.train, data.test, ("blue", "green", "red"))
    with pytest.raises(
        DataError, match=r"other must have the classes .* red, green, blue, got blue, green, red"
    ):
        predictor.evaluate(other)


def test_evaluation_normalises_as_the_run_did(run: Run) -> None:
    _, data, predictor = run
    bright = Split(255 - data.train.images, data.train.labels)
    other = Dataset("other", bright, data.test, data.classes)
    assert predictor.evaluate(other).loss == predictor.evaluate(data).loss


def test_an_old_checkpoint_says_what_is_missing_and_takes_it(run: Run, tmp_path: Path) -> None:
    out, data, predictor = run
    old = without(out, tmp_path / "old", "images")
    with pytest.raises(
        CheckpointError, match=r"must hold classes and normalisation .* 'colours' .*data=\.\.\."
    ):
        fe.load(old, "reference")
    again = fe.load(old, "reference", data=data)
    expected = predictor.predict(data.test.images).probabilities
    np.testing.assert_array_equal(again.predict(data.test.images).probabilities, expected)


def test_an_old_checkpoint_of_some_of_the_digits_needs_nothing(tmp_path: Path) -> None:
    data = fe.data.digits().limit(64)
    out = train(data, tmp_path / "run")
    old = without(out, tmp_path / "old", "images")
    assert fe.load(old).source == fe.load(out).source


def test_a_model_built_by_hand_is_given(tmp_path: Path) -> None:
    import tiny_run

    data = tiny_run.data()
    trainer = tiny_run.trainer("fp16", "reference")
    trainer.fit(data, 1, 16, out=tmp_path, progress=False)
    with pytest.raises(CheckpointError, match="built by hand"):
        fe.load(tmp_path, "reference")
    found = fe.load(tmp_path, "reference", model=tiny_run.model()).evaluate(data)
    assert found.accuracy == trainer.evaluate(data)[0]


def test_a_comparison_names_its_runs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text("{}")
    for name in ("fp32", "fp16"):
        without(run[0], tmp_path / name)
    with pytest.raises(CheckpointError, match="must be one run, got a comparison of fp16, fp32"):
        fe.load(tmp_path)
    assert fe.load(tmp_path / "fp16", "reference").classes == ("red", "green", "blue")


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("classes", []), ("classes", "abc"), ("classes", [1]), ("image_size", [7]), ("image_size", [0, 5]),
        ("image_size", [10**5, 10**5]), ("channels", 0), ("mean", "1"), ("std", 0), ("std", 1e9),
        ("origin", 3), ("origin", {"kind": 3}), ("origin", {"kind": "x", "path": 3}),
        ("origin", {"kind": "x", "path": None, "options": 3}),
        ("origin", {"kind": "image_folder", "path": "x", "options": {"image_size": [0, "a"]}}),
    ],
)  # fmt: skip
def test_damaged_entries_are_named(run: Run, tmp_path: Path, entry: str, value: Any) -> None:
    damaged = without(run[0], tmp_path / "damaged")
    body = json.loads((damaged / "checkpoint.json").read_text())["checkpoint"]
    rewritten(damaged, {**body, "images": {**body["images"], entry: value}})
    with pytest.raises(CheckpointError, match=r"checkpoint.json is damaged: images: "):
        fe.load(damaged)
    rewritten(damaged, {**body, "images": 3})
    with pytest.raises(CheckpointError, match="damaged: images must be a table"):
        fe.load(damaged)


def test_resuming_keeps_the_images_and_ignores_where_they_were(tmp_path: Path) -> None:
    data = colours()
    out = train(data, tmp_path / "run")
    moved = Dataset(
        "colours", data.train, data.test, data.classes, Origin("image_folder", "/moved", {"seed": 3})
    )
    model = fe.models.create("dnn", num_classes=3, image_size=(7, 5))
    trainer = fe.Trainer(model, lr=0.02, device="reference")
    trainer.fit(moved, 3, 20, out=out, resume=True, progress=False)
    images = fe.Checkpoint.load(out).images
    assert images is not None and images.origin == moved.origin


def test_a_network_of_text_is_named(run: Run, tmp_path: Path) -> None:
    old = without(run[0], tmp_path / "old", "images")
    body = json.loads((old / "checkpoint.json").read_text())["checkpoint"]
    body["model"]["config"] = {"name": "transformer-tiny"}
    with pytest.raises(CheckpointError, match="must hold a network of images, got transformer-tiny"):
        fe.load(rewritten(old, body))
