"""Every backward on the reference in float64 against central differences of its forward."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest
from function_cases import FUNCTION_CASES, FunctionCase

import fp16engine as fe
from fp16engine import functional as F

DEVICE = "reference"


def _tensors(values: list[np.ndarray], requires_grad: bool) -> list[Any]:
    return [fe.tensor(v, dtype="float64", device=DEVICE, requires_grad=requires_grad) for v in values]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in FUNCTION_CASES])
def test_gradient(case: FunctionCase) -> None:
    """d(sum of w * f) by every element of every input, for random weights w."""
    inputs = case.inputs()
    tensors = _tensors(inputs, requires_grad=True)
    y = case.function(*tensors)
    weights = np.random.default_rng(1).uniform(0.5, 1.5, y.shape)
    y.backward(fe.tensor(weights, dtype="float64", device=DEVICE))

    def loss() -> float:
        with fe.no_grad():
            return float((case.function(*_tensors(inputs, requires_grad=False)).numpy() * weights).sum())

    for tensor, values in zip(tensors, inputs, strict=True):
        assert tensor.grad is not None
        assert (tensor.grad.shape, tensor.grad.dtype) == (tensor.shape, "float64")
        expected = np.empty_like(values)
        for place in np.ndindex(values.shape):
            kept = values[place]
            values[place] = kept + bounds.DIFFERENCE_STEP
            above = loss()
            values[place] = kept - bounds.DIFFERENCE_STEP
            below = loss()
            values[place] = kept
            expected[place] = (above - below) / (2 * bounds.DIFFERENCE_STEP)
        scale = 1 + np.max(np.abs(expected), initial=0)
        error = np.max(np.abs(tensor.grad.numpy() - expected), initial=0)
        assert error <= bounds.DIFFERENCE_TOLERANCE * scale


def test_every_function_has_a_case() -> None:
    names = {case.name.split("-")[0] for case in FUNCTION_CASES}
    assert set(F.__all__) <= names


def test_equal_maxima_share_the_gradient() -> None:
    x = fe.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], dtype="float64", device=DEVICE, requires_grad=True)
    x.max(axis=1).backward(fe.tensor([1.0, 3.0], dtype="float64", device=DEVICE))
    assert x.grad.numpy().tolist() == [[0, 0.5, 0.5], [1, 1, 1]]


def test_first_maximum_of_a_window_takes_the_gradient() -> None:
    x = fe.tensor(np.ones((1, 2, 2, 1)), dtype="float64", device=DEVICE, requires_grad=True)
    F.max_pool2d(x, 2).sum().backward()
    assert x.grad.numpy().ravel().tolist() == [1, 0, 0, 0]
