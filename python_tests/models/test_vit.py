"""Vision transformers: sizes, shapes, seeds, limits, any depth, a batch learnt in binary16."""

from __future__ import annotations

from typing import Any

import model_checks
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.models.vit import Block, vit

pytestmark = [pytest.mark.usefixtures("cpu"), pytest.mark.slow]

BLOCK = 132_736


@pytest.mark.parametrize(("name", "ours", "paper"), [("vit8", 2_158_090, 2.02), ("vit12", 2_689_034, 2.55)])
def test_parameters_and_shape(name: str, ours: int, paper: float) -> None:
    model = model_checks.fresh(name)
    assert model.num_parameters() == ours
    assert int((ours - BLOCK) / 1e4) / 100 == paper  # the paper's numbers fit one block less
    model_checks.output_shape(model, 32, 3, 10)


def test_another_size() -> None:
    model = fe.models.create("vit8", 3, (20, 12), 1)
    assert model[0].positions.shape == (3 * 2, 64)
    model_checks.output_shape(model, (20, 12), 1, 3)


def test_seeds() -> None:
    model_checks.one_seed_one_network("vit8")


@pytest.mark.parametrize("precision", ["fp16", "fp32", "mp"])
def test_one_step(precision: str) -> None:
    model_checks.one_step("vit8", precision)


def test_one_batch_is_learnt() -> None:
    assert model_checks.overfit("vit8", "fp16", steps=12, lr=0.003, evaluate=True) == 1.0


def test_weights_travel() -> None:
    model_checks.weights_travel("vit8")


def test_any_depth() -> None:
    with fe.random.fork(3):
        model = vit(1, 10, (32, 32), 3)
    assert model.num_parameters() == 2_158_090 - 7 * BLOCK
    wrong: tuple[Any, ...] = (0, True, 2.0)
    for depth in wrong:
        with pytest.raises((TypeError, ValueError), match=f"vit: depth must .* got {depth}"):
            vit(depth, 10, (32, 32), 3)


def test_a_block_normalises_last_and_drops_out_in_training_only() -> None:
    block = Block(16, 2, 4, 8).to("reference")
    x = fe.tensor(5 + np.random.default_rng(0).normal(size=(2, 5, 16)), "float32", "reference")
    one, two = block(x).numpy(), block(x).numpy()
    for y in (one, two):
        np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
        np.testing.assert_allclose(y.var(-1), 1, atol=1e-4)
    assert not np.array_equal(one, two)
    block.eval()
    np.testing.assert_array_equal(block(x).numpy(), block(x).numpy())


def test_gradient_of_a_block() -> None:
    model_checks.block_gradient(Block(6, 2, 4, 8), (2, 5, 6))


def test_a_block_on_every_backend(backend_name: str) -> None:
    model_checks.block_runs(Block(6, 2, 4, 8), (2, 5, 6), (2, 5, 6), backend_name)


def test_small_images() -> None:
    model_checks.too_small("vit12", (5, 9), 6)
