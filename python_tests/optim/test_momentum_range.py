"""How far binary16 momentum goes under a steady gradient: the table of docs/optimizers.md."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fp16engine as fe


def _momentum(device: str, beta: float, gradients: list[np.ndarray]) -> np.ndarray:
    """The momentum array after these gradients."""
    w = fe.tensor(np.zeros_like(gradients[0]), "float16", device, requires_grad=True)
    optimizer = fe.optim.SGD([w], lr=1e-3, momentum=beta)
    for gradient in gradients:
        w.grad = fe.tensor(gradient, "float16", device)
        optimizer.step()
    (found,) = [value for value in optimizer.state_dict().values() if isinstance(value, np.ndarray)]
    return found.astype(np.float64)


@pytest.mark.parametrize(
    ("beta", "steps", "low", "high"),
    [(0.9, 200, 0.995, 0.999), (0.99, 1500, 0.961, 0.976), (0.999, 8000, 0.694, 0.781)],
)
def test_share_of_its_limit_under_a_steady_gradient(
    cpu: Any, beta: float, steps: int, low: float, high: float
) -> None:
    gradient = np.array([1e-5, 1e-4, 1e-3], np.float16)
    share = _momentum("cpu", beta, [gradient] * steps) / (gradient.astype(np.float64) / (1 - beta))
    assert (low < share).all() and (share < high).all()


@pytest.mark.parametrize(
    ("beta", "rest"), [(0.9, 4 * 2.0**-24), (0.99, 50 * 2.0**-24), (0.999, 500 * 2.0**-24)]
)
def test_it_stays_where_its_decay_is_below_half_a_gap(cpu: Any, beta: float, rest: float) -> None:
    gradients = [np.array([1e-2], np.float16), *[np.zeros(1, np.float16)] * 8000]
    assert _momentum("cpu", beta, gradients) == [rest]


def test_its_mean_is_right_where_gradients_vary(cpu: Any) -> None:
    draw = np.random.default_rng(0)
    gradients = [(draw.standard_normal(4096) + 0.5).astype(np.float16) for _ in range(600)]
    exact = np.zeros(4096)
    for gradient in gradients:
        exact = 0.99 * exact + gradient
    assert abs(_momentum("cpu", 0.99, gradients).mean() / exact.mean() - 1) < 1e-3
