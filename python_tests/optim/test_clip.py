"""Clipping by the norm of all gradients, where squares would overflow and where they would vanish."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.optim import clip_global_norm

SHAPES = ((20_000,), (3, 7), (), (0,), (513,))


def drawn(dtype: str, size: float) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [bounds.rounded(rng.normal(size=shape) * size, dtype) for shape in SHAPES]


@pytest.mark.parametrize("size", [1.0, 1.2e4, 1e-6, 300.0])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_norm(backend: Any, dtype: str, size: float) -> None:
    arrays = drawn(dtype, size * (1e30 if dtype == "float32" else 1))
    scale, root = backend.global_norm([backend.from_numpy(a) for a in arrays])
    largest = max(np.max(np.abs(a.astype(np.float64)), initial=0) for a in arrays)
    assert scale == 2.0 ** np.floor(np.log2(largest))
    squares = sum(np.sum(np.square(a.astype(np.float64) / scale)) for a in arrays)
    count = sum(a.size for a in arrays)
    relative = bounds.any_inputs(squares, count, "float32") / squares / 2 + bounds.EPS["float32"]
    assert abs(root - np.sqrt(squares)) <= relative * np.sqrt(squares)


def test_the_norm_of_nothing_and_of_what_is_not_finite(backend: Any) -> None:
    def norm(*values: float) -> tuple[float, float]:
        return backend.global_norm([backend.from_numpy(np.array(values, np.float16))])

    assert backend.global_norm([]) == norm(0.0, -0.0) == (1.0, 0.0)
    assert norm(bounds.SMALLEST["float16"]) == (bounds.SMALLEST["float16"], 1.0)
    for bad in (np.inf, -np.inf, np.nan):
        assert np.isnan(norm(1.0, bad, 2.0)[1])


def with_gradients(device: str, dtype: str, arrays: list[np.ndarray]) -> list[fe.Tensor]:
    params = [fe.tensor(np.zeros(a.shape), dtype, device, requires_grad=True) for a in arrays]
    for p, a in zip(params, arrays, strict=True):
        p.grad = fe.tensor(a, dtype, device)
    return params


def test_squares_beyond_the_largest_half(backend_name: str) -> None:
    """300^2 > 65504: a norm in float16 would be inf, and every clipped gradient 0."""
    params = with_gradients(backend_name, "float16", [np.array([300.0]), np.array([-400.0])])
    assert clip_global_norm(params, 5.0) == 500.0
    assert [p.grad.item() for p in params if p.grad is not None] == [3.0, -4.0]
    assert clip_global_norm(params, 5.0) == 5.0
    assert [p.grad.item() for p in params if p.grad is not None] == [3.0, -4.0]


def test_gradients_that_are_not_finite_stay(backend_name: str) -> None:
    for bad, norm in ((np.inf, np.inf), (np.nan, np.nan)):
        (p,) = with_gradients(backend_name, "float16", [np.array([bad, 1.0])])
        np.testing.assert_equal(clip_global_norm([p], 0.5), norm)
        assert p.grad is not None
        np.testing.assert_array_equal(p.grad.numpy(), np.array([bad, 1.0], np.float16))


def test_arguments() -> None:
    p = fe.tensor([1.0], "float16", "reference", requires_grad=True)
    assert clip_global_norm([p], 1.0) == 0.0
    for max_norm in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"max_norm must .* got"):
            clip_global_norm([p], max_norm)
