from __future__ import annotations

import doctest
import importlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fp16engine.data import Dataset, Split
from fp16engine.errors import DataError


def make(images: np.ndarray, labels: object = None, classes: tuple[str, ...] = ("a", "b")) -> Dataset:
    split = Split(images, np.zeros(len(images), np.int64) if labels is None else np.asarray(labels))
    return Dataset("made", split, split, classes)


def ramp(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((2, 3, 3, 1), np.float32), [0, 1], ("images", "float32", "uint8")),
        (np.zeros((2, 3, 3), np.uint8), [0, 1], ("images", "(2, 3, 3)", "(N, H, W, C)")),
        (np.zeros((0, 3, 3, 1), np.uint8), np.zeros(0, np.int64), ("images", "at least one")),
        (np.zeros((2, 0, 3, 1), np.uint8), [0, 1], ("images", "at least one")),
        (np.zeros((2, 3, 3, 1), np.uint8), [0.0, 1.0], ("labels", "float64", "integers")),
        (np.zeros((2, 3, 3, 1), np.uint8), [0, 1, 1], ("labels", "(3,)", "(2,)")),
        (np.zeros((2, 3, 3, 1), np.uint8), [[0], [1]], ("labels", "(2, 1)", "(2,)")),
    ],
)
def test_split_refuses(images, labels, words, fails):
    with fails(DataError, *words):
        Split(images, np.asarray(labels))


def test_split_keeps_values_contiguous():
    images = ramp(4, 3, 5, 2)[:, :, ::-1]
    split = Split(images, np.arange(4, dtype=np.uint8))
    assert split.images.flags.c_contiguous and split.labels.dtype == np.int64 and len(split) == 4
    np.testing.assert_array_equal(split.images, images)


@pytest.mark.parametrize("label", [-1, 2, 200])
def test_label_without_class(label, fails):
    with fails(DataError, "made: train", "0 to 1", f"got {label}", "index 1"):
        make(ramp(2, 2, 2, 1), [0, label])


def test_splits_must_match(fails):
    labels = np.zeros(2, np.int64)
    with fails(DataError, "(2, 2, 3)", "(2, 2, 1)"):
        Dataset("x", Split(ramp(2, 2, 2, 1), labels), Split(ramp(2, 2, 2, 3), labels), ("a",))


def test_wrong_parts(fails):
    split = Split(ramp(1, 2, 2, 1), np.zeros(1, np.int64))
    with fails(DataError, "classes"):
        Dataset("x", split, split, ())
    with fails(DataError, "test", "ndarray", "Split"):
        Dataset("x", split, ramp(1, 2, 2, 1), ("a",))  # type: ignore[arg-type]


def test_describes_itself():
    dataset = make(ramp(3, 4, 5, 3))
    assert dataset.image_size == (4, 5) and dataset.channels == 3
    assert repr(dataset) == "Dataset('made', 3 training and 3 test images of 4x5x3, 2 classes)"


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=6)))
def test_moments_against_float64(images):
    dataset = make(images)
    wide = images.astype(np.float64)
    np.testing.assert_array_max_ulp(np.float64(dataset.mean), wide.mean(), 4)
    # NumPy's own summation leaves an error of some ulps of the largest pixel.
    assert abs(dataset.std - wide.std()) <= 16 * np.spacing(255.0)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5)),
    st.sampled_from(["float16", "float32", "float64"]),
)
def test_normalised_is_float64_rounded_once(images, dtype):
    dataset = make(images)
    if dataset.std == 0:
        return
    for part in ("train", "test"):
        expected = ((images.astype(np.float64) - dataset.mean) / dataset.std).astype(dtype)
        result = dataset.normalised(part, dtype)
        assert result.dtype == dtype and result.flags.c_contiguous
        np.testing.assert_array_equal(result, expected)


def test_normalised_over_many_chunks():
    images = np.random.default_rng(0).integers(0, 256, (1500, 4, 4, 3), dtype=np.uint8)
    dataset = make(images)
    expected = ((images.astype(np.float64) - dataset.mean) / dataset.std).astype(np.float16)
    np.testing.assert_array_equal(dataset.normalised("train", "float16"), expected)


def test_test_split_uses_training_moments():
    train = Split(ramp(4, 3, 3, 1), np.zeros(4, np.int64))
    test = Split(np.full((2, 3, 3, 1), 200, np.uint8), np.zeros(2, np.int64))
    dataset = Dataset("x", train, test, ("a",))
    expected = (200 - train.images.mean(dtype=np.float64)) / train.images.std(dtype=np.float64)
    np.testing.assert_allclose(
        dataset.normalised("test", "float64"), expected, rtol=8 * np.finfo(np.float64).eps
    )


def test_normalised_is_kept_per_split_and_dtype():
    dataset = make(ramp(4, 3, 3, 1))
    assert dataset.normalised("train", "float16") is dataset.normalised("train", "float16")
    assert dataset.normalised("train", "float16") is not dataset.normalised("test", "float16")
    assert dataset.normalised("train", "float32").dtype == np.float32


def test_moments_and_normalisation_take_no_wide_copy():
    dataset = make(np.random.default_rng(0).integers(0, 256, (20_000, 8, 8, 3), dtype=np.uint8))
    size = dataset.train.images.size
    tracemalloc.start()
    try:
        assert dataset.std > 0
        moments = tracemalloc.get_traced_memory()[1]
        dataset.normalised("train", "float16")
        both = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert moments < size  # a float64 copy takes 8 times `size`
    assert both < 2 * size + size


def test_normalised_refuses(fails):
    dataset = make(ramp(4, 3, 3, 1))
    with fails(ValueError, "split must", "train or test", "'valid'"):
        dataset.normalised("valid", "float16")
    with fails(ValueError, "dtype", "'int8'", "float16"):
        dataset.normalised("train", "int8")


def test_constant_pixels(fails):
    dataset = make(np.full((3, 2, 2, 1), 7, np.uint8))
    assert (dataset.mean, dataset.std) == (7.0, 0.0)
    with fails(DataError, "made", "pixels must", "got 7"):
        dataset.normalised("train", "float16")


def test_single_sample():
    dataset = make(ramp(1, 2, 2, 1), classes=("only",))
    assert dataset.mean == 1.5
    assert dataset.normalised("train", "float16").shape == (1, 2, 2, 1)


def test_limit():
    dataset = make(ramp(5, 2, 2, 1), [0, 1, 0, 1, 1])
    few = dataset.limit(2)
    assert (len(few.train), len(few.test), few.classes, few.name) == (2, 2, dataset.classes, "made")
    np.testing.assert_array_equal(few.train.images, dataset.train.images[:2])
    np.testing.assert_array_equal(few.train.labels, [0, 1])
    assert few.mean == dataset.train.images[:2].mean()
    assert len(dataset.limit(99).train) == 5
    assert len(dataset.limit(np.int64(1)).train) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "kind"), [(0, ValueError), (-3, ValueError), (2.5, TypeError), (True, TypeError), ("3", TypeError)]
)
def test_limit_refuses(n, kind, fails):
    with fails(kind, "limit must", f"got {n!r}"):
        make(ramp(5, 2, 2, 1)).limit(n)


@pytest.mark.parametrize("module", ["dataset", "digits", "loaders"])
def test_examples(module):
    result = doctest.testmod(importlib.import_module(f"fp16engine.data.{module}"))
    assert result.attempted and not result.failed
