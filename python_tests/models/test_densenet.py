"""DenseNets: sizes, shapes, seeds, limits, a step in every policy, a batch learnt in binary16."""

from __future__ import annotations

import model_checks
import numpy as np
import pytest

import fp16engine as fe
from fp16engine import nn
from fp16engine.models.densenet import Layer

pytestmark = [pytest.mark.usefixtures("cpu"), pytest.mark.slow]


@pytest.mark.parametrize(
    ("name", "ours", "paper"), [("densenet121", 6_964_106, 7.04), ("densenet169", 12_501_130, 12.65)]
)
def test_parameters_and_shape(name: str, ours: int, paper: float) -> None:
    model = model_checks.fresh(name)
    assert model.num_parameters() == ours
    assert abs(ours / 1e6 / paper - 1) < 0.03
    # Keras counts running statistics, too; so does the paper.
    everything = ours + model_checks.statistics(model)
    assert int(everything / 1e4) / 100 == paper
    model_checks.output_shape(model, 32, 3, 10)


def test_the_network_for_small_images() -> None:
    """One million values with growth 12, as the paper's Table 2 says, and a step in HBFP4."""
    model = model_checks.fresh("densenet40")
    assert model.num_parameters() == 1_019_722
    assert len([m for _, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]) == 40
    model_checks.output_shape(fe.models.create("densenet40", 5, (9, 4), 1), (9, 4), 1, 5)
    model_checks.one_step("densenet40", "hbfp4", count=2)


def test_another_size() -> None:
    model_checks.output_shape(fe.models.create("densenet121", 3, (33, 50), 1), (33, 50), 1, 3)


def test_seeds() -> None:
    model_checks.one_seed_one_network("densenet121")


@pytest.mark.parametrize("precision", ["fp16", "fp32", "mp"])
def test_one_step(precision: str) -> None:
    model_checks.one_step("densenet121", precision, count=8)


def test_one_batch_is_learnt() -> None:
    assert model_checks.overfit("densenet121", "fp16", steps=7, lr=0.02) == 1.0


def test_weights_travel() -> None:
    model_checks.weights_travel("densenet121")


def test_a_layer_keeps_its_input() -> None:
    x = fe.tensor(model_checks.images(2, 4), "float16", "reference")
    y = Layer(3, 8, 5).to("reference", "fp16")(x)
    assert y.shape == (2, 4, 4, 8)
    np.testing.assert_array_equal(y.numpy()[..., :3], x.numpy())


def _layers() -> nn.Module:
    return nn.Sequential(Layer(3, 6, 2), Layer(5, 6, 2), nn.AvgPool2d(2))


def test_gradient_of_two_layers() -> None:
    model_checks.block_gradient(_layers(), (2, 5, 4, 3))


def test_two_layers_on_every_backend(backend_name: str) -> None:
    model_checks.block_runs(_layers(), (2, 5, 4, 3), (2, 2, 2, 7), backend_name)


def test_small_images() -> None:
    model_checks.too_small("densenet121", 28, 29)
