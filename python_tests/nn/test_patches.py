"""Patches: which pixels go where, positions, wrong arguments."""

from __future__ import annotations

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import nn


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_values(backend_name: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    layer = nn.PatchEmbedding(size, 3, 2, 5).to(backend_name)
    x = rng.integers(-3, 4, (2, *size, 3)).astype(np.float32)
    state = {
        "projection.weight": rng.integers(-3, 4, (5, 12)).astype(np.float32),
        "projection.bias": rng.integers(-3, 4, 5).astype(np.float32),
        "positions": rng.integers(-3, 4, (6, 5)).astype(np.float32),
    }
    layer.load_state_dict(state)
    y = layer(fe.tensor(x, device=backend_name)).numpy()
    assert y.shape == (2, 6, 5)
    for row in range(2):
        for column in range(3):
            patch = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(2, 12)
            mapped = patch @ state["projection.weight"].T + state["projection.bias"]
            place = row * 3 + column
            np.testing.assert_array_equal(y[:, place], mapped + state["positions"][place])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "mp"])
def test_gradients(backend_name: str, precision: str) -> None:
    policy = fe.Precision.get(precision)
    layer = nn.PatchEmbedding((5, 7), 3, 2, 4).to(backend_name, policy)
    x = fe.tensor(np.ones((2, 5, 7, 3)), policy.storage, backend_name, requires_grad=True)
    with policy.use():
        layer(x).sum().backward()
    np.testing.assert_array_equal(layer.positions.grad.numpy(), np.full((6, 4), 2))
    assert x.grad.numpy()[:, :4, :6].all() and not x.grad.numpy()[:, 4:].any()
    assert not x.grad.numpy()[:, :, 6:].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((5, 32), 3, 6, 8), r"PatchEmbedding: image_size must .* got 5x32"),
        (((32, 32), 0, 6, 8), r"PatchEmbedding: channels must .* got 0"),
        (((32, 32), 3, 0, 8), r"PatchEmbedding: patch must .* got 0"),
    ],
)
def test_wrong_arguments(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nn.PatchEmbedding(*arguments)


def test_images_of_another_size() -> None:
    layer = nn.PatchEmbedding((8, 8), 3, 4, 2).to("reference")
    with pytest.raises(ValueError, match=r"PatchEmbedding: x must .* got \(1, 8, 9, 3\)"):
        layer(fe.tensor(np.zeros((1, 8, 9, 3)), device="reference"))
