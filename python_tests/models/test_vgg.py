"""VGG: sizes, shapes, seeds, limits, a step in every policy, a batch learnt in binary16."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import model_checks
import pytest

import fp16engine as fe
from fp16engine import nn

pytestmark = [pytest.mark.usefixtures("cpu"), pytest.mark.slow]


@pytest.mark.parametrize(
    ("name", "ours", "paper"), [("vgg16", 33_641_162, 33.76), ("vgg19", 38_950_858, 38.36)]
)
def test_parameters_and_shape(name: str, ours: int, paper: float) -> None:
    model = model_checks.fresh(name)
    assert model.num_parameters() == ours
    assert abs(ours / 1e6 / paper - 1) < 0.03
    model_checks.output_shape(model, 32, 3, 10)


def test_another_size() -> None:
    model = fe.models.create("vgg16", 3, (33, 70), 1)
    assert model[-5].weight.shape == (4096, 2 * 512)
    model_checks.output_shape(model, (33, 70), 1, 3)


def test_norms_follow_the_first_four_pools_and_flatten() -> None:
    model: Any = model_checks.fresh("vgg16")
    before = [type(a) for a, b in pairwise(model.layers) if isinstance(b, nn.BatchNorm2d)]
    assert before == [nn.MaxPool2d] * 4 + [nn.Flatten]


def test_seeds() -> None:
    model_checks.one_seed_one_network("vgg16")


@pytest.mark.parametrize("precision", ["fp16", "fp32", "mp"])
def test_one_step(precision: str) -> None:
    model_checks.one_step("vgg16", precision)


def test_one_batch_is_learnt() -> None:
    assert model_checks.overfit("vgg16", "fp16", steps=7, lr=0.01) == 1.0


def test_weights_travel() -> None:
    model_checks.weights_travel("vgg16")


def _stage() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(4)
    )


def test_gradient_of_a_stage() -> None:
    model_checks.block_gradient(_stage(), (2, 5, 4, 3))


def test_a_stage_on_every_backend(backend_name: str) -> None:
    model_checks.block_runs(_stage(), (2, 5, 4, 3), (2, 2, 2, 4), backend_name)


def test_small_images() -> None:
    model_checks.too_small("vgg16", (32, 31), 32)
