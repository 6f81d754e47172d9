"""MobileNetV2: size, shapes, seeds, a step in every policy, a batch learnt in binary16."""

from __future__ import annotations

from typing import Any

import model_checks
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.models.mobilenet import Block

pytestmark = [pytest.mark.usefixtures("cpu"), pytest.mark.slow]


def test_parameters_and_shape() -> None:
    model = model_checks.fresh("mobilenetv2")
    assert model.num_parameters() == 2_236_682
    # Keras and the paper (2.27 M) count running statistics, too.
    assert 2_236_682 + model_checks.statistics(model) == 2_270_794
    model_checks.output_shape(model, 32, 3, 10)


@pytest.mark.parametrize("size", [1, (9, 30)])
def test_other_sizes(size: int | tuple[int, int]) -> None:
    model_checks.output_shape(fe.models.create("mobilenetv2", 3, size, 1), size, 1, 3)


def test_seeds() -> None:
    model_checks.one_seed_one_network("mobilenetv2")


@pytest.mark.parametrize("precision", ["fp16", "fp32", "mp"])
def test_one_step(precision: str) -> None:
    model_checks.one_step("mobilenetv2", precision, count=8)


def test_one_batch_is_learnt() -> None:
    assert model_checks.overfit("mobilenetv2", "fp16", steps=26, lr=0.02) == 1.0


def test_weights_travel() -> None:
    model_checks.weights_travel("mobilenetv2")


def test_residual_only_where_the_shape_stays() -> None:
    x = fe.tensor(model_checks.images(1, 4), "float32", "reference")
    block: Any
    for block, expected in ((Block(3, 3, 2, 1), x.numpy()), (Block(3, 4, 2, 1), 0), (Block(3, 3, 1, 2), 0)):
        block.to("reference").eval()
        block.layers[-2].weight.data[...] = 0
        y = block(x).numpy()
        np.testing.assert_array_equal(y, np.broadcast_to(expected, y.shape))


@pytest.mark.parametrize(("width", "expansion", "stride"), [(3, 2, 1), (4, 2, 2), (4, 1, 1)])
def test_gradient_of_a_block(width: int, expansion: int, stride: int) -> None:
    model_checks.block_gradient(Block(3, width, expansion, stride), (2, 5, 4, 3))


@pytest.mark.parametrize(("stride", "expected"), [(1, (2, 5, 4, 3)), (2, (2, 3, 2, 3))])
def test_a_block_on_every_backend(backend_name: str, stride: int, expected: tuple[int, ...]) -> None:
    model_checks.block_runs(Block(3, 3, 2, stride), (2, 5, 4, 3), expected, backend_name)
