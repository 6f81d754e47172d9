"""Arrays and data sets of other makers: taken as they are meant, or named as what they look like."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.data import Dataset, collect
from fp16engine.data.collect import collected
from fp16engine.errors import DataError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (20, 6, 8, 3), dtype=np.uint8)
Y = np.arange(20) % 4


class Pairs:
    """As PyTorch's Dataset: a length and items, and no end by IndexError."""

    classes = ("ant", "bee", "cow", "doe")

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, at: int) -> tuple[Any, int]:
        return X[at % len(X)], int(Y[at % len(X)])


class Batches:
    """As PyTorch's DataLoader: batches, the data set, another order every time."""

    dataset = Pairs()

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield from ((X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16))


class Label:
    """As Hugging Face's ClassLabel."""

    names = ("ant", "bee", "cow", "doe")


class Records(list[dict[str, Any]]):
    """As Hugging Face's Dataset: records, and features that know the classes' names."""

    features: ClassVar = {"image": None, "label": Label()}


RECORDS = Records({"image": x, "label": int(y)} for x, y in zip(X, Y, strict=True))
FORMS = {
    "pair": (X, Y),
    "list": [X, Y],
    "floats": (X / 255, Y),
    "integers": (X.astype(np.int32), Y.astype(np.uint8)),
    "nested lists": (X.tolist(), Y.tolist()),
    "samples": list(zip(X, Y, strict=True)),
    "batches": list(Batches()),
    "generator": iter(list(Batches())),
    "two batches": [(X[:10], Y[:10]), (X[10:], Y[10:])],
    "torch Dataset": Pairs(),
    "torch DataLoader": Batches(),
    "records": RECORDS,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_data_set(form: str) -> None:
    data, expected = collected(FORMS[form]), Dataset.from_arrays(X, Y)
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(data, part).images, getattr(expected, part).images)
        np.testing.assert_array_equal(getattr(data, part).labels, getattr(expected, part).labels)
    named = form.startswith("torch") or form == "records"
    assert data.classes == (("ant", "bee", "cow", "doe") if named else tuple("0123"))


def test_parts_that_are_given_are_kept() -> None:
    data = collected({"train": RECORDS, "test": Records(RECORDS[:4])})
    assert (len(data.train), len(data.test), data.classes) == (20, 4, ("ant", "bee", "cow", "doe"))
    assert len(collected({"train": RECORDS, "validation": Records(RECORDS[:3])}).test) == 3
    assert len(collected({"train": RECORDS}).test) == 4
    data = Dataset.from_arrays(X, Y, test=(X[:3], Y[:3]))
    assert (len(data.train), len(data.test), data.notes) == (20, 3, ())


def test_gray_images_names_and_shares() -> None:
    names = np.array(["dog", "cat"])[Y % 2]
    data = Dataset.from_arrays(X[..., 0], names, test=0.5, name="pets")
    assert (
        data.channels == 1 and data.classes == ("cat", "dog") and len(data.test) == 10 and data.name == "pets"
    )
    whole = Dataset.from_arrays(X, names, test=(X, names))
    assert whole.train.labels.tolist() == whole.test.labels.tolist() == [1, 0] * 10
    other = Dataset.from_arrays(X, names, classes=("dog", "cat"), test=(X, names))
    assert other.train.labels.tolist() == [0, 1] * 10
    np.testing.assert_array_equal(Dataset.from_arrays(np.full((4, 2, 2), 0.5), [0, 1] * 2).train.images, 128)


@pytest.mark.parametrize(
    "shape", [(4, 3, 32, 32), (4, 1, 28, 28), (4, 4, 8, 6), (4, 12, 64, 64), (4, 3, 5, 7)], ids=str
)
def test_channels_first_is_named_everywhere(shape: tuple[int, ...]) -> None:
    x, y = np.zeros(shape, np.float32), np.array([0, 1, 0, 1])
    model = fe.models.create("dnn", image_size=shape[1:3], channels=shape[3])
    trainer = fe.Trainer(model, device="reference")
    pairs = list(zip(x, y, strict=True))
    for call in (
        lambda: Dataset.from_arrays(x, y),
        lambda: trainer.fit((x, y), 1, 4, progress=False),
        lambda: trainer.fit(pairs, 1, 4, progress=False),
        lambda: trainer.fit([(x, y)], 1, 4, progress=False),
        lambda: trainer.step(x, y),
        lambda: trainer.predict(x),
    ):
        with pytest.raises(
            DataError, match=r"x must be of shape \(N, H, W, C\), got .* which is channels first"
        ):
            call()


def test_shapes_that_are_channels_last_pass() -> None:
    for shape in ((4, 28, 28, 1), (4, 3, 3, 3), (4, 2, 2, 1), (4, 4, 6, 4), (4, 8, 8, 12)):
        assert Dataset.from_arrays(np.zeros(shape, np.uint8), [0, 1] * 2).train.images.shape[1:] == shape[1:]


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (X[0], Y, {}, r"y must hold 6 labels, .* got 20"),
        (X[0, 0], Y, {}, r"x must be images of shape .* got \(8, 3\)"),
        (X[:0], Y[:0], {}, "x must be images of shape"),
        (X / 127, Y, {}, "x must be pixels from 0 to 255, or floats from 0 to 1, got float64 from 0 to 2"),
        (np.full((4, 2, 2), 1.0000001, np.float32), Y[:4], {}, "got float32 from 1.0000001 to 1.0000001;"),
        (X, Y * 0, {}, "y must hold at least 2 classes, got one, '0'"),
        (X, ["cat"] * 20, {}, "y must hold at least 2 classes, got one, 'cat'"),
        (X, Y * 0 + 1, {"classes": ("a", "b")}, "y must hold at least 2 classes, got one, 'b'"),
        (X[:3], [0, 1, 2], {}, r"x must hold 2 or more images of a class, .* got 1 of each; or give"),
        (X - 1.0, Y, {}, r"got float64 from -1 to 254; leave out what normalises them"),
        (X.astype(np.int64) + 1, Y, {}, "got int64 from 1 to 256"),
        (np.full((4, 2, 2, 1), np.nan), Y[:4], {}, "got float64 from nan to nan"),
        (X.astype(complex), Y, {}, "x must be uint8 pixels, got complex128"),
        (X, Y[:, None], {}, r"y must be labels of shape \(N,\), got shape \(20, 1\)"),
        (X, Y / 2, {}, "y must be integers or names of classes"),
        (X, Y - 1, {}, "y must hold labels from 0 to K - 1 of K classes, got -1 to 2"),
        (X, Y * 10**9, {}, "got 0 to 3000000000 for 20 images"),
        (X, Y, {"classes": "ab"}, r"y must hold labels from 0 to 1, got 2 at index 2"),
        (X, ["a", "z"] * 10, {"classes": ("a", "b")}, "y must hold names that classes holds, got 'z'"),
        (X, Y, {"test": 1.0}, "test_share must be .* < 1"),
        (X, Y, {"test": "some"}, "test_share must be"),
        (X, Y, {"test": (X,)}, "test must be a share or a pair"),
        (X, Y, {"test": (X[:, :3], Y)}, r"test images must be of shape \(6, 8, 3\)"),
        (X, Y, {"seed": -1}, "seed must be"),
        ([[1, 2], [3]], [0, 1], {}, r"x must be .* nested lists of equal lengths, got \[\[1, 2\], \[3\]\]"),
        (X, [[0], []] * 10, {}, "y must be an array, or nested lists of equal lengths, got "),
    ],
)  # fmt: skip
def test_wrong_arrays_are_named(x: Any, y: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises((DataError, ValueError, TypeError), match=words):
        Dataset.from_arrays(x, y, **options)


def test_labels_that_skip_numbers_are_said_unless_the_classes_are_named() -> None:
    with pytest.warns(UserWarning, match="y has no label of 12 of 15 classes, the first 1; labels"):
        data = Dataset.from_arrays(X, np.array([0, 7, 14, 7] * 5))
    assert len(data.classes) == 15
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Dataset.from_arrays(X, Y * 2, classes="abcdefg")
        Dataset.from_arrays(X, Y)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "dataset must be a data.Dataset, a pair"),
        ("folder", "dataset must be a data.Dataset, a pair"),
        (X, "dataset must be a data.Dataset, .* got ndarray"),
        (Pairs, "dataset must be a data.Dataset, .* got Pairs"),
        ([], "dataset must hold at least one image, got none"),
        ([1, 2, 3], "entry 0 must be a pair of images and labels, got int"),
        ([{"text": "a", "label": 1}], "entry 0 must have an image and a label, got the columns text, label"),
        (
            [(X[0], 1), (X[0, :3], 0)],
            r"entry 1 must have images of shape \(6, 8, 3\) as those before, got \(3, 8",
        ),
        ([(X[:4], Y[:3]), (X, Y)], r"entry 0 must be .* got shapes \(4, 6, 8, 3\) and \(3,\)"),
    ],
)
def test_what_is_no_data_set_is_named(value: Any, words: str) -> None:
    with pytest.raises((DataError, TypeError), match=words):
        collected(value)


def test_an_endless_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "machine_memory", lambda: 10 * X.nbytes)

    def endless() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            yield X, Y

    with pytest.raises(
        DataError, match=r"must fit into half of this machine's memory, got more in 6 entries"
    ):
        collected(endless())


def test_fit_takes_a_pair_and_says_what_is_tested(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = fe.Trainer(fe.models.create("dnn", 4, (6, 8)), device="reference")
    history = trainer.fit((X, Y), epochs=1, batch_size=8)
    assert history.images == 16
    assert "0.2 of every class, drawn with seed 0, is the test part." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["torch", "datasets"])
def test_the_real_thing(name: str) -> None:
    real = pytest.importorskip(name)
    if name == "torch":
        data = real.utils.data.TensorDataset(real.from_numpy(X), real.from_numpy(Y))
        forms = [data, real.utils.data.DataLoader(data, batch_size=7)]
        forms.append(real.utils.data.DataLoader(data, batch_size=7))
        first = real.utils.data.TensorDataset(
            real.from_numpy(X).permute(0, 3, 1, 2) / 255, real.from_numpy(Y)
        )
        with pytest.raises(DataError, match="which is channels first"):
            collected(first)
    else:
        features = real.Features(
            {"image": real.Array3D((6, 8, 3), "uint8"), "label": real.ClassLabel(names=list(Label.names))}
        )
        columns = {"image": list(X), "label": Y.tolist()}
        forms = [real.Dataset.from_dict(columns, features=features).with_format("numpy")]
    for form in forms:
        np.testing.assert_array_equal(collected(form).train.images, Dataset.from_arrays(X, Y).train.images)
