"""Xception: size, shapes, seeds, limits, a step in every policy, a batch learnt in binary16."""

from __future__ import annotations

import model_checks
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.models.xception import Unit

pytestmark = [pytest.mark.usefixtures("cpu"), pytest.mark.slow]


def test_parameters_and_shape() -> None:
    model = model_checks.fresh("xception")
    assert model.num_parameters() == 20_827_442
    # Keras' table: 22 910 480 for 1000 classes, running statistics included.
    statistics = model_checks.statistics(model)
    assert 20_827_442 + statistics + 990 * 2049 == 22_910_480
    model_checks.output_shape(model, 32, 3, 10)


def test_another_size() -> None:
    model_checks.output_shape(fe.models.create("xception", 3, (20, 45), 1), (20, 45), 1, 3)


def test_seeds() -> None:
    model_checks.one_seed_one_network("xception")


@pytest.mark.parametrize("precision", ["fp16", "fp32", "mp"])
def test_one_step(precision: str) -> None:
    model_checks.one_step("xception", precision, image_size=16)


def test_one_batch_is_learnt() -> None:
    assert model_checks.overfit("xception", "fp16", steps=7, lr=0.02, image_size=16) == 1.0


def test_weights_travel() -> None:
    model_checks.weights_travel("xception", image_size=16)


def test_a_unit_rectifies_its_input_but_not_the_shortcut() -> None:
    unit = Unit(3, (4, 3), shrink=False).to("reference").eval()
    x = fe.tensor(-np.abs(model_checks.images(1, 4)), "float32", "reference")
    np.testing.assert_array_equal(unit(x).numpy(), x.numpy())
    unit.rectified = False
    assert not np.array_equal(unit(x).numpy(), x.numpy())


@pytest.mark.parametrize("shrink", [False, True])
def test_gradient_of_a_unit(shrink: bool) -> None:
    model_checks.block_gradient(Unit(3, (4, 5) if shrink else (4, 3), shrink), (2, 5, 4, 3))


@pytest.mark.parametrize(("rectified", "shrink"), [(True, False), (False, True)])
def test_a_unit_on_every_backend(backend_name: str, rectified: bool, shrink: bool) -> None:
    widths, expected = ((4, 5), (2, 3, 2, 5)) if shrink else ((4, 3), (2, 5, 4, 3))
    model_checks.block_runs(Unit(3, widths, shrink, rectified), (2, 5, 4, 3), expected, backend_name)


def test_small_images() -> None:
    model_checks.too_small("xception", (6, 32), 7)
