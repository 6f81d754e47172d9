"""Optimizers against float64 re-implementations of their papers, and against known facts of binary16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.optim import SGD, Adam, AdamW, Optimizer, RMSprop

STEPS = 12
SHAPE = (3, 5)


def plain_sgd(w, grads, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    m = np.zeros_like(w)
    for g in grads:
        g = g + w * weight_decay
        m = m * momentum + g
        w = w - (g + m * momentum if nesterov else m) * lr
    return w


def plain_adam(w, grads, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        if not decoupled:
            g = g + w * weight_decay
        m = m * betas[0] + g * (1 - betas[0])
        v = v * betas[1] + g * g * (1 - betas[1])
        step = (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) * lr
        w = w - step - (w * (lr * weight_decay) if decoupled else 0 * w)
    return w


def plain_adamw(w, grads, **options):
    return plain_adam(w, grads, decoupled=True, **options)


def plain_rmsprop(w, grads, lr, alpha=0.9, eps=1e-8, momentum=0.0, weight_decay=0.0):
    v, b = np.zeros_like(w), np.zeros_like(w)
    for g in grads:
        g = g + w * weight_decay
        v = v * alpha + g * g * (1 - alpha)
        b = b * momentum + g / (np.sqrt(v) + eps)
        w = w - b * lr
    return w


CASES = [
    (SGD, plain_sgd, {"lr": 0.1}),
    (SGD, plain_sgd, {"lr": 0.1, "momentum": 0.9}),
    (SGD, plain_sgd, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (Adam, plain_adam, {"lr": 0.01, "eps": 1e-3}),
    (Adam, plain_adam, {"lr": 0.01, "eps": 1e-3, "betas": (0.8, 0.9), "weight_decay": 0.1}),
    (AdamW, plain_adamw, {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.1}),
    (RMSprop, plain_rmsprop, {"lr": 0.01, "eps": 1e-3}),
    (RMSprop, plain_rmsprop, {"lr": 0.01, "eps": 1e-3, "momentum": 0.9, "alpha": 0.5, "weight_decay": 0.1}),
]
IDS = [f"{make.__name__}-{i}" for i, (make, _, _) in enumerate(CASES)]


def parameter(value: object, dtype: str, device: str) -> fe.Tensor:
    return fe.tensor(value, dtype, device, requires_grad=True)


def set_grad(p: fe.Tensor, value: Any) -> None:
    p.grad = fe.tensor(np.broadcast_to(value, p.shape), p.dtype, p.device)


def drawn(dtype: str) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return rng.normal(size=SHAPE).astype(dtype), [rng.normal(size=SHAPE).astype(dtype) for _ in range(STEPS)]


@pytest.mark.parametrize(("make", "plain", "options"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_trajectory(
    backend_name: str, make: type[Optimizer], plain: Callable, options: dict, dtype: str
) -> None:
    start, grads = drawn(dtype)
    p = parameter(start, dtype, backend_name)
    optimizer = make([p], **options)
    for g in grads:
        set_grad(p, g)
        optimizer.step()
    exact = plain(start.astype(np.float64), [g.astype(np.float64) for g in grads], **options)
    naive = plain(start, grads, **options)
    assert naive.dtype == dtype
    bounds.relative(p.numpy(), naive, exact, dtype)


@pytest.mark.parametrize(("make", "plain", "options"), CASES, ids=IDS)
def test_trajectory_of_masters(
    backend_name: str, make: type[Optimizer], plain: Callable, options: dict
) -> None:
    start, grads = drawn("float32")
    grads = [g.astype(np.float16) for g in grads]
    p = parameter(start, "float16", backend_name)
    optimizer = make([p], update="master32", master_values=[start], **options)
    for g in grads:
        set_grad(p, g * np.float16(64))
        optimizer.step(grad_scale=1 / 64)
    master = optimizer.state_dict()["master.0"]
    exact = plain(start.astype(np.float64), [g.astype(np.float64) for g in grads], **options)
    naive = plain(start, [g.astype(np.float32) for g in grads], **options)
    bounds.relative(master, naive, exact, "float32")
    bounds.same_bits(p.numpy(), master.astype(np.float16))


def test_weight_decay_alone_is_lost_in_binary16(backend_name: str) -> None:
    p = parameter([1.0], "float16", backend_name)
    optimizer = SGD([p], lr=0.1, weight_decay=5e-4)
    set_grad(p, 0.0)
    for _ in range(100):
        optimizer.step()
    assert p.item() == 1.0

    p = parameter([1.0], "float16", backend_name)
    optimizer = SGD([p], lr=0.1, weight_decay=5e-4, update="master32")
    set_grad(p, 0.0)
    for _ in range(100):
        optimizer.step()
    assert p.item() == np.float16((1 - 5e-5) ** 100)


@pytest.mark.parametrize("make", [SGD, AdamW])
def test_decay_is_added_in_the_register(backend_name: str, make: Callable[..., Optimizer]) -> None:
    # 1.5e-4 is less than half the distance 2^-11 below 1, twice that is more
    half_step = 1.5e-4
    results = []
    for decay in (0.0, 1.0):
        p = parameter([1.0], "float16", backend_name)
        set_grad(p, 1.0)
        make([p], lr=half_step, weight_decay=decay).step()
        results.append(p.item())
    assert results == [1.0, 1.0 - 2**-11]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("make", [Adam, AdamW, RMSprop])
def test_zero_gradient_zero_update(backend_name: str, make: Callable[..., Optimizer], dtype: str) -> None:
    p = parameter([1.0, -2.0], dtype, backend_name)
    options = {"lr": 0.1, "weight_decay": 0.0}
    optimizer = make([p], **options)
    set_grad(p, 0.0)
    for _ in range(3):
        optimizer.step()
    assert p.numpy().tolist() == [1.0, -2.0]


def test_a_gradient_whose_square_overflows(backend_name: str) -> None:
    # 300^2 > 65504, but (1 - beta2) * 300^2 is what is stored
    p = parameter([1.0], "float16", backend_name)
    set_grad(p, 300.0)
    Adam([p], lr=0.125).step()
    assert p.item() == 0.875


def test_own_weight_decay_comes_first(backend_name: str) -> None:
    decayed = fe.nn.Parameter(np.ones(1, np.float32), weight_decay=0.5)
    plain = fe.nn.Parameter(np.ones(1, np.float32), weight_decay=0.0)
    for p in (decayed, plain):
        p.device = backend_name
        set_grad(p, 0.0)
    SGD([decayed, plain], lr=0.5, weight_decay=0.25).step()
    assert (decayed.item(), plain.item()) == (0.75, 1.0)


def test_parameters_without_gradient_stay(backend_name: str) -> None:
    p, q = parameter([1.0], "float32", backend_name), parameter([1.0], "float32", backend_name)
    optimizer = SGD([p, q], lr=0.5, momentum=0.5)
    set_grad(p, 1.0)
    optimizer.step()
    assert (p.item(), q.item()) == (0.5, 1.0)
    optimizer.zero_grad()
    assert p.grad is None
    optimizer.step()
    assert (p.item(), optimizer.step_count) == (0.5, 2)


def test_mixed_dtypes_with_masters(backend_name: str) -> None:
    half, single = parameter([1.0], "float16", backend_name), parameter([1.0], "float32", backend_name)
    optimizer = SGD([half, single], lr=1e-4, momentum=0.9, update="master32")
    state = optimizer.state_dict()
    assert "master.0" in state and "master.1" not in state
    assert state["momentum.0"].dtype == state["momentum.1"].dtype == np.float32
    for p in (half, single):
        set_grad(p, 1.0)
    optimizer.step()
    assert half.item() == 1.0
    assert optimizer.state_dict()["master.0"] == single.item() == np.float32(1 - 1e-4)


def test_masters_start_where_they_are_told(backend_name: str) -> None:
    p = parameter([0.1], "float16", backend_name)
    assert SGD([p], 0.1, update="master32").state_dict()["master.0"] == np.float32(np.float16(0.1))
    given = SGD([p], 0.1, update="master32", master_values=[np.array([0.1], np.float32)])
    assert given.state_dict()["master.0"] == np.float32(0.1)


@pytest.mark.parametrize("update", ["nearest", "stochastic", "kahan", "master32"])
@pytest.mark.parametrize(("make", "plain", "options"), CASES, ids=IDS)
def test_state_continues_bit_for_bit(
    backend_name: str, make: type[Optimizer], plain: Callable, options: dict, update: str
) -> None:
    start, grads = drawn("float16")
    options = {**options, "update": update, "seed": 5}

    def run(p: fe.Tensor, optimizer: Optimizer, part: list[np.ndarray]) -> None:
        for g in part:
            set_grad(p, g)
            optimizer.step()

    p = parameter(start, "float16", backend_name)
    optimizer = make([p], **options)
    run(p, optimizer, grads[:5])
    q = parameter(p.numpy(), "float16", backend_name)
    resumed = make([q], **{**options, "seed": 6})
    resumed.load_state_dict(optimizer.state_dict())
    run(p, optimizer, grads[5:])
    run(q, resumed, grads[5:])
    bounds.same_bits(q.numpy(), p.numpy())
    assert resumed.step_count == STEPS


def test_state_dict_is_a_copy(backend_name: str) -> None:
    p = parameter([1.0], "float32", backend_name)
    optimizer = SGD([p], 0.5, momentum=0.5)
    state = optimizer.state_dict()
    set_grad(p, 1.0)
    optimizer.step()
    assert state["momentum.0"].tolist() == [0.0]
    assert state["step"] == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda s: s.pop("momentum.0"),
            ValueError,
            "load_state_dict: the state must hold 'momentum.0'",
        ),
        (lambda s: s.pop("lr"), ValueError, "load_state_dict: the state must hold 'lr'"),
        (lambda s: s.update({"m.0": 1}), ValueError, "load_state_dict: the state must .* got entry 'm.0'"),
        (
            lambda s: s.update({"momentum.0": np.zeros(3, np.float32)}),
            ValueError,
            r"load_state_dict: 'momentum.0' must .* got \(3,\)",
        ),
        (
            lambda s: s.update({"momentum.0": np.zeros(2, np.float16)}),
            TypeError,
            "load_state_dict: 'momentum.0' must .* got float16",
        ),
    ],
)
def test_wrong_state(change: Callable, error: type[Exception], message: str) -> None:
    optimizer = SGD([parameter([1.0, 2.0], "float32", "reference")], 0.5, momentum=0.5)
    state = optimizer.state_dict()
    state["lr"] = 0.25
    change(state)
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.lr == 0.5
