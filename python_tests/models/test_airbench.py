"""airbench94: sizes, whitening, shapes, seeds, a step in every policy, a batch learnt in binary16."""

from __future__ import annotations

from typing import Any

import bounds
import model_checks
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.models.airbench import Airbench94, ConvGroup, Whitening, whitening_filters

pytestmark = pytest.mark.usefixtures("cpu")


def images(count: int = 40, channels: int = 3) -> np.ndarray:
    """Images whose neighbouring pixels and channels are alike, as photographs' are; mean 0, std 1."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.normal(size=(count, 8, 8, 1)), np.ones((1, 4, 4, channels)))
    x = coarse + 0.3 * rng.normal(size=(count, 32, 32, channels))
    return (x - x.mean()) / x.std()


def test_parameters_and_shape() -> None:
    """1.97 M, as arXiv 2404.00498 says; whitening and norm scales are fixed."""
    model = fe.models.create("airbench94")
    assert round(model.num_parameters() / 1e6, 2) == 1.97
    trained = {name for name, _ in model.named_parameters()}
    assert "whitening.bias" in trained
    assert not trained & {"whitening.weight", "groups.0.norm1.gamma"}
    model_checks.output_shape(model, 32, 3, 10)


@pytest.mark.parametrize(("size", "channels", "features"), [((25, 48), 1, 256), ((73, 49), 3, 3 * 2 * 256)])
def test_another_size(size: tuple[int, int], channels: int, features: int) -> None:
    model: Any = fe.models.create("airbench94", 3, size, channels)
    assert model.head.weight.shape == (3, features)
    model_checks.output_shape(model, size, channels, 3)


def test_small_images() -> None:
    model_checks.too_small("airbench94", (24, 32), 25)


def test_patches_are_white() -> None:
    """The first 12 outputs of the fixed filters are uncorrelated and of variance 1; the others their
    negatives."""
    x = images()
    model = fe.models.create("airbench94")
    assert isinstance(model, Airbench94)
    model.whiten(x)
    layer = model.whitening.to("reference")
    y = layer(fe.tensor(x, "float32", "reference")).numpy().reshape(-1, 24).astype(np.float64)
    covariance = y[:, :12].T @ y[:, :12] / len(y)
    weakest = np.linalg.eigvalsh(np.cov(x.reshape(-1, 3).T))[0]
    assert np.max(np.abs(covariance - np.eye(12))) < 5e-4 / (0.3 * weakest)
    np.testing.assert_array_equal(y[:, 12:], -y[:, :12])


def test_what_the_images_lack_is_not_blown_up() -> None:
    """Grey images have no colour: eigenvalue 0, and the filter is 1 / sqrt(5e-4) long, no longer."""
    grey = np.repeat(images(channels=1), 3, axis=3)
    filters = whitening_filters(grey).reshape(24, 12)
    lengths = np.linalg.norm(filters[:12], axis=1)
    assert np.all(np.diff(lengths) >= -1e-9)  # the largest eigenvalue first
    np.testing.assert_allclose(lengths[4:], 5e-4**-0.5, rtol=1e-6)
    assert np.isfinite(filters.astype(np.float16)).all()


def test_filters_do_not_depend_on_where_the_images_are_cut() -> None:
    x = images(600)
    np.testing.assert_allclose(whitening_filters(x), whitening_filters(x[::-1]), atol=1e-8)
    same = whitening_filters(x.astype(np.float32))
    np.testing.assert_array_equal(same, whitening_filters(x.astype(np.float32)))


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [(np.zeros((2, 1, 4, 3)), r"\(2, 1, 4, 3\)"), (np.zeros((0, 4, 4, 3)), r"\(0, 4, 4, 3\)")],
)
def test_wrong_images(wrong: np.ndarray, shown: str) -> None:
    with pytest.raises(ValueError, match=f"images must be .* got {shown}"):
        whitening_filters(wrong)
    with pytest.raises(ValueError, match=r"images must be of shape \(N, H, W, 3\), got \(2, 4, 4, 1\)"):
        Whitening(3).fit(np.ones((2, 4, 4, 1)))


def test_prepare_takes_the_filters_from_normalised_training_images() -> None:
    pixels = (images() * 40 + 128).clip(0, 255).astype(np.uint8)
    split = fe.data.Split(pixels, np.zeros(len(pixels), np.int64))
    data = fe.data.Dataset("mine", split, split, ("one",))
    model: Any = fe.models.prepare(fe.models.create("airbench94"), data)
    exact = whitening_filters(data.normalised("train", "float64"))
    np.testing.assert_allclose(model.whitening.weight.numpy(), exact, atol=1e-4)


def test_prepare_takes_a_network_and_a_data_set_only() -> None:
    with pytest.raises(TypeError, match="model must be a Module, got 3"):
        fe.models.prepare(3, 4)
    with pytest.raises(TypeError, match=r"dataset must be a data.Dataset, got 4"):
        fe.models.prepare(fe.models.create("dnn", image_size=8), 4)


def test_convolutions_copy_their_inputs_at_first() -> None:
    model: Any = fe.models.create("airbench94").to("reference")
    kernel = model.groups[1].conv1.weight.numpy()
    x = fe.tensor(images(1, 64)[:, :8, :8], "float32", "reference")
    with fe.Precision.get("fp32").changed(convolution="direct").use():
        bounds.same_bits(model.groups[1].conv1(x).numpy()[..., :64], x.numpy())
    limit = (9 * 64) ** -0.5
    assert 0.9 * limit < np.abs(kernel[64:]).max() <= limit


def test_seeds() -> None:
    """Another seed draws other values wherever any are drawn: the last convolution of a group has none."""
    first, same, other = (fe.models.create("airbench94", seed=seed).state_dict() for seed in (0, 0, 1))
    drawn = {"whitening.weight", "head.weight", "groups.0.conv1.weight", "groups.1.conv1.weight"}
    for key, value in first.items():
        np.testing.assert_array_equal(value, same[key])
        assert np.array_equal(value, other[key]) == (key not in drawn), key


@pytest.mark.parametrize("precision", ["fp16", "fp32", "mp"])
def test_one_step(precision: str) -> None:
    model_checks.one_step("airbench94", precision)


@pytest.mark.slow
def test_one_batch_is_learnt() -> None:
    assert model_checks.overfit("airbench94", "fp16", steps=12, lr=0.05) == 1.0


def test_weights_travel() -> None:
    model_checks.weights_travel("airbench94")


def test_gradient_of_a_group() -> None:
    model_checks.block_gradient(ConvGroup(3, 5), (2, 5, 4, 3))


def test_a_group_on_every_backend(backend_name: str) -> None:
    model_checks.block_runs(ConvGroup(3, 5), (2, 5, 4, 3), (2, 2, 2, 5), backend_name)


def test_whitening_on_every_backend(backend_name: str) -> None:
    model_checks.block_runs(Whitening(3), (2, 5, 4, 3), (2, 4, 3, 24), backend_name)
