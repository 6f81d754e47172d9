"""Data order, batches, and the checks of what callers pass in."""

import numpy as np
import pytest
import tiny_run

import fp16engine as fe
from fp16engine.train import batches


def test_order_is_a_permutation_and_depends_on_seed_and_epoch_only():
    order = batches.data_order(3, 0, 1000)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert np.array_equal(order, batches.data_order(3, 0, 1000))
    assert not np.array_equal(order, batches.data_order(3, 1, 1000))
    assert not np.array_equal(order, batches.data_order(4, 0, 1000))
    assert batches.data_order(2**64 - 1, 0, 1).tolist() == [0]


def test_order_is_fixed_for_all_time():
    # a changed order would break the bit-exact resume of every existing run
    assert batches.data_order(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]


def test_order_has_no_favourite_position():
    counts = np.zeros((6, 6))
    for epoch in range(3000):
        counts[np.arange(6), batches.data_order(1, epoch, 6)] += 1
    assert abs(counts / 3000 - 1 / 6).max() < 5 * np.sqrt(1 / 6 * 5 / 6 / 3000)


def test_batches_in_order_cover_all_images_and_the_last_is_smaller():
    data = tiny_run.data()
    resident = batches.DeviceSplit.of(data, "train", "float16", tiny_run.DEVICE)
    assert resident.images is data.normalised("train", "float16")  # not copied on a host device
    parts = list(resident.in_order(16))
    assert [len(labels) for _, labels in parts] == [16, 16, 16, 2]
    assert np.array_equal(
        np.concatenate([images for images, _ in parts]), data.normalised("train", "float16")
    )
    assert np.array_equal(np.concatenate([labels for _, labels in parts]), data.train.labels)


def test_images_are_rounded_once_to_the_storage_dtype():
    x = np.full((1, 1, 1, 2), 2049.0)
    x[..., 1] = 1e6
    array = batches.device_images(x, tiny_run.DEVICE, "float16")
    assert array.dtype == np.float16 and array[0, 0, 0].tolist() == [2048, np.inf]
    tensor = fe.tensor(x, dtype="float32", device=tiny_run.DEVICE)
    assert np.array_equal(batches.device_images(tensor, tiny_run.DEVICE, "float16"), array)
    assert batches.device_images([[[[1.5]]]], tiny_run.DEVICE, "float32").dtype == np.float32


IMAGES = np.zeros((2, 4, 4, 1), np.float32)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (IMAGES.astype(np.uint8), TypeError, r"x must .* got uint8"),
        (IMAGES[0], ValueError, r"x must .* got \(4, 4, 1\)"),
        (IMAGES[:0], ValueError, r"x must .* got an empty batch"),
        ("images", TypeError, r"x must .* got str"),
        (IMAGES.astype(object), TypeError, r"x must .* got object"),
    ],
)
def test_wrong_images_are_named(x, error, words):
    with pytest.raises(error, match=words):
        batches.device_images(x, tiny_run.DEVICE, "float16")


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        ([0.0, 1.0], TypeError, r"y must .* got float64"),
        ([True, False], TypeError, r"y must .* got bool"),
        ([0, 1, 2], ValueError, r"y must .* got \(3,\)"),
        ([[0, 1]], ValueError, r"y must .* got \(1, 2\)"),
        ([0, -1], ValueError, r"y must .* got -1"),
    ],
)
def test_wrong_labels_are_named(y, error, words):
    with pytest.raises(error, match=words):
        batches.host_labels(y, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_of_any_integer_dtype(dtype):
    assert batches.host_labels(np.array([1, 2], dtype), 2).dtype == np.int64
    assert batches.host_labels(fe.tensor([1, 2], device=tiny_run.DEVICE), 2).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": 3}, r"dataset 'tiny' must .* got 1-channel ones"),
        ({"image_size": 8}, r"dataset 'tiny' must .* got 4x4"),
        ({"image_size": (4, 5)}, r"dataset 'tiny' must .* got 4x4"),
        ({"num_classes": 2}, r"dataset 'tiny' must .* got 3"),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused(change, words):
    config = {"name": "dnn", "num_classes": 3, "image_size": 4, "channels": 1, "seed": 0, **change}
    trainer = fe.Trainer(fe.models.create(**config), device=tiny_run.DEVICE)
    for call in (lambda: trainer.fit(tiny_run.data(), 1, 4), lambda: trainer.evaluate(tiny_run.data())):
        with pytest.raises(ValueError, match=words):
            call()
