"""ResNets of basic blocks: sizes, shapes, seeds, a step in every policy, a batch learnt in binary16."""

from __future__ import annotations

import model_checks
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.models.resnet_basic import Block

pytestmark = [pytest.mark.usefixtures("cpu"), pytest.mark.slow]


@pytest.mark.parametrize(("name", "ours"), [("resnet18", 11_173_962), ("resnet34", 21_282_122)])
def test_parameters_and_shape(name: str, ours: int) -> None:
    model = model_checks.fresh(name)
    assert model.num_parameters() == ours
    model_checks.output_shape(model, 32, 3, 10)


@pytest.mark.parametrize("size", [1, (9, 6)])
def test_other_sizes(size: int | tuple[int, int]) -> None:
    model_checks.output_shape(fe.models.create("resnet18", 4, size, 2), size, 2, 4)


def test_seeds() -> None:
    model_checks.one_seed_one_network("resnet18")


@pytest.mark.parametrize("precision", ["fp16", "fp32", "mp"])
def test_one_step(precision: str) -> None:
    model_checks.one_step("resnet18", precision, image_size=8)


def test_one_batch_is_learnt() -> None:
    assert model_checks.overfit("resnet18", "fp16", steps=7, lr=0.01, image_size=8) == 1.0


def test_weights_travel() -> None:
    model_checks.weights_travel("resnet18", image_size=8)


def test_only_kernels_carry_the_penalty() -> None:
    for name, p in model_checks.fresh("resnet18").named_parameters():
        kernel = name.endswith("weight") and not name.startswith("classifier")
        assert p.weight_decay == (2e-4 if kernel else None)


def test_a_block_without_its_convolutions_rectifies_its_input() -> None:
    block = Block(3, 3, 1).to("reference").eval()
    block.conv2.weight.data[...] = 0
    x = fe.tensor(model_checks.images(1, 4), "float32", "reference")
    np.testing.assert_array_equal(block(x).numpy(), np.maximum(x.numpy(), 0))


@pytest.mark.parametrize(("width", "stride"), [(3, 1), (5, 2)])
def test_gradient_of_a_block(width: int, stride: int) -> None:
    model_checks.block_gradient(Block(3, width, stride), (2, 4, 5, 3))


def test_a_block_on_every_backend(backend_name: str) -> None:
    model_checks.block_runs(Block(3, 5, 2), (2, 4, 5, 3), (2, 2, 3, 5), backend_name)
