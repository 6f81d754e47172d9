"""What optimizer constructors refuse or warn about, word for word where users will read it."""

# mypy: disable-error-code="arg-type, list-item"
# Wrong arguments are what is tested here.

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.optim import SGD, Adam, AdamW, RMSprop


def parameter(dtype: str = "float16") -> fe.Tensor:
    return fe.tensor([1.0, 2.0], dtype, "reference", requires_grad=True)


ADAPTIVE = pytest.mark.parametrize("make", [Adam, AdamW, RMSprop])


@ADAPTIVE
def test_default_eps_suits_the_state(make: Callable) -> None:
    assert make([parameter("float16")], lr=0.1).eps == 1e-8
    assert make([parameter("float16")], lr=0.1, state="plain").eps == 1e-3
    assert make([parameter("float32")], lr=0.1, state="plain").eps == 1e-8
    assert make([parameter("float16")], lr=0.1, state="plain", update="master32").eps == 1e-8
    assert make([parameter("float32"), parameter("float16")], lr=0.1, state="plain").eps == 1e-3


@ADAPTIVE
@pytest.mark.parametrize("eps", [1e-8, 2.98e-8, 1e-12])
def test_eps_that_is_zero_is_refused(make: Callable, eps: float) -> None:
    with pytest.raises(ValueError) as caught:
        make([parameter()], lr=0.1, eps=eps, state="plain")
    assert str(caught.value) == (
        f"eps: {eps:g} is 0 in float16, where anything <= 2.98e-08 rounds to 0, and a zero gradient "
        "would be divided by 0; use state='native' (the default, which keeps eps in a register), "
        "eps=1e-3 (the default of plain float16 state), "
        "or update='master32', which keeps the state in float32; eps=0 says that it is meant"
    )


@ADAPTIVE
def test_no_eps_has_to_be_meant(make: Callable) -> None:
    assert make([parameter()], lr=0.1, eps=0, state="plain").eps == 0
    for options in ({"state": "native"}, {"state": "plain", "update": "master32"}):
        with pytest.raises(ValueError, match="eps: 0 given, a finite number > 0 is wanted"):
            make([parameter()], lr=0.1, eps=0, **options)


def test_eps_that_is_zero_in_float32_too() -> None:
    for dtype in ("float16", "float32"):
        with pytest.raises(ValueError, match=r"eps: 1e-50 is 0 in float32, .*; use eps=1e-8 \(the default\)"):
            Adam([parameter(dtype)], eps=1e-50)


@ADAPTIVE
@pytest.mark.parametrize(
    ("eps", "text"),
    [
        (1e-7, "eps: 1e-07 becomes 1.192e-07 in float16 (+19%); that is what the optimizer will use"),
        (1e-6, "eps: 1e-06 becomes 1.013e-06 in float16 (+1%); that is what the optimizer will use"),
    ],
)
def test_eps_that_moves_is_announced(make: Callable, eps: float, text: str) -> None:
    with pytest.warns(UserWarning) as caught:
        make([parameter()], lr=0.1, eps=eps, state="plain")
    assert [str(w.message) for w in caught] == [text]
    assert caught[0].filename == __file__


@ADAPTIVE
@pytest.mark.parametrize("eps", [1e-5, 1e-4, 1e-3, 1e-2])
def test_eps_that_fits_is_taken(make: Callable, eps: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make([parameter()], lr=0.1, eps=eps, state="plain").eps == eps
        assert make([parameter("float32")], lr=0.1, eps=1e-8).eps == 1e-8
        assert make([parameter()], lr=0.1, eps=1e-12).eps == 1e-12


@pytest.mark.parametrize("make", [SGD, Adam, AdamW, RMSprop])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": float("nan")}, "lr: nan given, a finite number > 0 is wanted"),
        ({"lr": float("inf")}, "lr: inf given, a finite number > 0 is wanted"),
        ({"lr": 0.0}, "lr: 0.0 given, a finite number > 0 is wanted"),
        ({"lr": -0.1}, "lr: -0.1 given, a finite number > 0 is wanted"),
        ({"lr": 0.1, "weight_decay": -1.0}, "weight_decay: -1.0 given, a finite number >= 0 is wanted"),
    ],
)
def test_wrong_numbers(make: Callable, options: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make([parameter()], **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: SGD([p], "fast"), TypeError, "lr: 'fast' given, a finite number > 0 is wanted"),
        (
            lambda p: SGD([p], 0.1, momentum=1.0),
            ValueError,
            "momentum: 1.0 given, a finite number >= 0 and < 1 is",
        ),
        (lambda p: SGD([p], 0.1, nesterov=True), ValueError, "nesterov: True with momentum 0 given"),
        (
            lambda p: Adam([p], betas=(0.9, 1.0)),
            ValueError,
            r"betas\[1\]: 1.0 given, a finite number >= 0 and < 1",
        ),
        (lambda p: Adam([p], eps=0.0), ValueError, "eps: 0.0 given, a finite number > 0 is wanted"),
        (lambda p: Adam([p], eps=1e6, state="plain"), ValueError, "eps: 1e.06 is inf in float16"),
        (
            lambda p: Adam([p], state="fp16"),
            ValueError,
            "state: 'fp16' given, one of native, plain is wanted",
        ),
        (lambda p: SGD([p], 0.1, seed=-1), ValueError, "seed: -1 given, an integer in"),
        (lambda p: RMSprop([p], 0.1, alpha=-1), ValueError, "alpha: -1 given"),
        (
            lambda p: SGD([p], 0.1, update="up"),
            fe.UnsupportedPrecision,
            "update: 'up' given, one of nearest, stochastic, kahan, master32 is wanted",
        ),
        (lambda p: SGD([], 0.1), ValueError, "params: no parameters given"),
        (lambda p: SGD([p, p], 0.1), ValueError, "params: the same parameter given twice"),
        (lambda p: SGD([np.ones(2)], 0.1), TypeError, r"params\[0\]: ndarray given, a Tensor is wanted"),
        (lambda p: SGD([p * 1.0], 0.1), ValueError, r"params\[0\]: a tensor that is no leaf"),
        (lambda p: SGD([p.detach()], 0.1), ValueError, r"params\[0\]: a tensor that is no leaf"),
        (
            lambda p: SGD([p], 0.1, master_values=[p.numpy()]),
            ValueError,
            "master_values: given with update='nearest'",
        ),
        (
            lambda p: SGD([p], 0.1, update="master32", master_values=[]),
            ValueError,
            "master_values: 0 arrays given, 1 are wanted",
        ),
        (
            lambda p: SGD([p], 0.1, update="master32", master_values=[np.ones(3)]),
            ValueError,
            r"master_values\[0\]: shape \(3,\) given, \(2,\) is wanted",
        ),
    ],
)
def test_wrong_arguments(call: Callable, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(parameter())


def test_a_model_cast_afterwards_is_noticed() -> None:
    layer = fe.nn.Linear(2, 2).to("reference")
    optimizer = SGD(layer.parameters(), 0.1)
    layer.to(precision="fp16")
    layer(fe.tensor([[1.0, 2.0]], "float16", "reference")).sum().backward()
    with pytest.raises(
        TypeError, match=r"parameter 0 is float16 .* make the optimizer after model.to\(...\)"
    ):
        optimizer.step()
