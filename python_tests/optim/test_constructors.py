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
    with pytest.raises(
        ValueError, match=rf"^eps must .* got {eps:g}; use state='native' .*update='master32'.*eps=0"
    ):
        make([parameter()], lr=0.1, eps=eps, state="plain")


@ADAPTIVE
def test_no_eps_has_to_be_meant(make: Callable) -> None:
    assert make([parameter()], lr=0.1, eps=0, state="plain").eps == 0
    for options in ({"state": "native"}, {"state": "plain", "update": "master32"}):
        with pytest.raises(ValueError, match=r"eps must .* got 0"):
            make([parameter()], lr=0.1, eps=0, **options)


def test_eps_that_is_zero_in_float32_too() -> None:
    for dtype in ("float16", "float32"):
        with pytest.raises(ValueError, match=r"eps must .* got 1e-50"):
            Adam([parameter(dtype)], eps=1e-50)


@ADAPTIVE
@pytest.mark.parametrize(
    ("eps", "text"),
    [
        (1e-7, "eps 1e-07 becomes 1.192e-07 in float16 (+19%)"),
        (1e-6, "eps 1e-06 becomes 1.013e-06 in float16 (+1%)"),
    ],
)
def test_eps_that_moves_is_announced(make: Callable, eps: float, text: str) -> None:
    with pytest.warns(UserWarning) as caught:
        make([parameter()], lr=0.1, eps=eps, state="plain")
    assert [str(w.message).partition(";")[0] for w in caught] == [text]
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
    ("name", "value"),
    [("lr", float("nan")), ("lr", float("inf")), ("lr", 0.0), ("lr", -0.1), ("weight_decay", -1.0)],
)
def test_wrong_numbers(make: Callable, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number .*, got {value}$"):
        make([parameter()], **{"lr": 0.1, name: value})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: SGD([p], "fast"), TypeError, "lr must .* got 'fast'"),
        (
            lambda p: SGD([p], 0.1, momentum=1.0),
            ValueError,
            "momentum must .* got 1.0",
        ),
        (lambda p: SGD([p], 0.1, nesterov=True), ValueError, "momentum must .* got 0"),
        (
            lambda p: Adam([p], betas=(0.9, 1.0)),
            ValueError,
            r"betas\[1\] must .* got 1.0",
        ),
        (lambda p: Adam([p], eps=0.0), ValueError, "eps must .* got 0.0"),
        (lambda p: Adam([p], eps=1e6, state="plain"), ValueError, r"eps must .* got 1e\+06"),
        (
            lambda p: Adam([p], state="fp16"),
            ValueError,
            "state must .* got 'fp16'",
        ),
        (lambda p: SGD([p], 0.1, seed=-1), ValueError, "seed must .* got -1"),
        (lambda p: RMSprop([p], 0.1, alpha=-1), ValueError, "alpha must .* got -1"),
        (
            lambda p: SGD([p], 0.1, update="up"),
            fe.UnsupportedPrecision,
            "update must .* got 'up'",
        ),
        (lambda p: SGD([], 0.1), ValueError, "params must .* got none"),
        (lambda p: SGD([p, p], 0.1), ValueError, "params must .* got one of them twice"),
        (lambda p: SGD([np.ones(2)], 0.1), TypeError, r"params\[0\] must .* got ndarray"),
        (lambda p: SGD([p * 1.0], 0.1), ValueError, r"params\[0\] must .* got a computed tensor"),
        (lambda p: SGD([p.detach()], 0.1), ValueError, r"params\[0\] must .* got requires_grad=False"),
        (
            lambda p: SGD([p], 0.1, master_values=[p.numpy()]),
            ValueError,
            "master_values must .* got 1 arrays",
        ),
        (
            lambda p: SGD([p], 0.1, update="master32", master_values=[]),
            ValueError,
            "master_values must .* got 0",
        ),
        (
            lambda p: SGD([p], 0.1, update="master32", master_values=[np.ones(3)]),
            ValueError,
            r"master_values\[0\] must .* got \(3,\)",
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
    with pytest.raises(TypeError, match=r"parameter 0 must .* got float16 on 'reference'"):
        optimizer.step()
