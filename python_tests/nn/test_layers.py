"""Layers: shapes, initial values, switches between training and evaluation, wrong arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine import nn

HALVES: Any = 1.5  # no number of features


def images(*shape: int, device: str, dtype: str = "float32") -> fe.Tensor:
    return fe.tensor(np.random.default_rng(0).normal(size=shape), dtype, device)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (lambda: nn.Linear(4, 7), (5, 4), (5, 7)),
        (lambda: nn.Linear(4, 7), (2, 3, 4), (2, 3, 7)),
        (lambda: nn.Conv2d(4, 8, 3), (2, 7, 5, 4), (2, 7, 5, 8)),
        (lambda: nn.Conv2d(4, 8, 3, stride=2), (2, 7, 6, 4), (2, 4, 3, 8)),
        (lambda: nn.Conv2d(4, 8, (1, 3), padding=0, groups=2), (2, 7, 6, 4), (2, 7, 4, 8)),
        (lambda: nn.Conv2d(4, 8, 3, padding=(0, 1), bias=False), (2, 7, 6, 4), (2, 5, 6, 8)),
        (lambda: nn.BatchNorm2d(4), (2, 7, 6, 4), (2, 7, 6, 4)),
        (lambda: nn.BatchNorm2d(4, activation="relu"), (1, 1, 1, 4), (1, 1, 1, 4)),
        (lambda: nn.LayerNorm(4), (2, 7, 4), (2, 7, 4)),
        (lambda: nn.MultiHeadAttention(8, 2), (2, 5, 8), (2, 5, 8)),
        (lambda: nn.MultiHeadAttention(8, 3, head_dim=4), (2, 5, 8), (2, 5, 8)),
        (lambda: nn.Dropout(0.1), (2, 3), (2, 3)),
        (lambda: nn.MaxPool2d(3, 2), (2, 7, 7, 4), (2, 3, 3, 4)),
        (lambda: nn.MaxPool2d(2, padding="same"), (2, 7, 5, 4), (2, 4, 3, 4)),
        (lambda: nn.AvgPool2d(2), (2, 7, 6, 4), (2, 3, 3, 4)),
        (lambda: nn.AvgPool2d(3, 1, 1), (2, 7, 6, 4), (2, 7, 6, 4)),
        (lambda: nn.GlobalAvgPool2d(), (2, 7, 6, 4), (2, 4)),
        (lambda: nn.Flatten(), (2, 7, 6, 4), (2, 168)),
        (lambda: nn.ReLU(), (3,), (3,)),
        (lambda: nn.ReLU6(), (3,), (3,)),
        (lambda: nn.GELU(), (3,), (3,)),
        (lambda: nn.Tanh(), (3,), (3,)),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "mp"])
def test_shapes_dtypes_and_gradients(
    backend_name: str, layer: Callable, shape: tuple[int, ...], expected: tuple[int, ...], precision: str
) -> None:
    policy = fe.Precision.get(precision)
    module = layer().to(backend_name, policy)
    x = fe.tensor(images(*shape, device=backend_name), policy.storage, backend_name, requires_grad=True)
    with policy.use():
        y = module(x)
        assert (y.shape, y.dtype) == (expected, policy.storage)
        y.sum().backward()
    for t in (x, *module.parameters()):
        assert (t.grad.shape, t.grad.dtype) == (t.shape, t.dtype)
        assert np.all(np.isfinite(t.grad.numpy()))


def test_embedding(backend_name: str) -> None:
    layer = nn.Embedding(10, 4).to(backend_name, "fp16")
    ids = fe.tensor([[1, 2], [2, 9]], device=backend_name)
    y = layer(ids)
    assert (y.shape, y.dtype) == ((2, 2, 4), "float16")
    y.sum().backward()
    assert layer.weight.grad.numpy()[:, 0].tolist() == [0, 1, 2, 0, 0, 0, 0, 0, 0, 1]


def test_glorot_limits() -> None:
    weight = nn.Conv2d(8, 16, 3).weight.data
    limit = np.sqrt(6 / (9 * 8 + 9 * 16))
    assert 0.99 * limit < np.abs(weight).max() <= np.float32(limit)
    assert abs(weight.mean()) < limit / 10
    assert nn.Linear(3, 2).bias.data.tolist() == [0.0, 0.0]


def test_layers_with_one_seed_differ_from_each_other() -> None:
    with fe.random.fork(0):
        first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    assert not np.array_equal(first.weight.data, second.weight.data)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "mp"])
def test_batch_norm_normalises_and_follows(backend_name: str, precision: str) -> None:
    policy = fe.Precision.get(precision)
    layer = nn.BatchNorm2d(3, momentum=0.5).to(backend_name, policy)
    data = np.random.default_rng(1).normal(8, 0.5, size=(64, 4, 4, 3)).astype(policy.storage)
    x = fe.tensor(data, device=backend_name)
    y = layer(x).numpy().astype(np.float64)
    assert np.all(np.abs(y.mean((0, 1, 2))) < 32 * bounds.EPS["float16"])
    assert np.all(np.abs(y.std((0, 1, 2)) - 1) < 32 * bounds.EPS["float16"])
    assert layer.running_mean.dtype == policy.statistics
    exact = data.astype(np.float64).mean((0, 1, 2))  # from the first step, whatever the average started with
    bounds.within_ulps(layer.running_mean.numpy(), exact, 4, policy.statistics)
    before = layer.running_mean.numpy().copy()
    layer.eval()
    layer(x)
    np.testing.assert_array_equal(layer.running_mean.numpy(), before)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("precision", ["fp32", "mp"])
def test_batch_norm_has_gradients_in_evaluation(
    backend_name: str, precision: str, activation: str | None
) -> None:
    policy = fe.Precision.get(precision)
    layer = nn.BatchNorm2d(3, activation=activation).to(backend_name, policy).eval()
    layer.load_state_dict(
        {
            key: np.linspace(0.5, 1.5, 3, dtype=policy.statistics)
            for key, value in layer.state_dict().items()
            if value.dtype == policy.statistics
        }
    )
    x = fe.tensor(images(2, 2, 2, 3, device="reference"), policy.storage, backend_name, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    gamma, mean, var = (
        v.numpy().astype(np.float64) for v in (layer.gamma, layer.running_mean, layer.running_var)
    )
    mask = np.ones(x.shape) if activation is None else y.numpy() > 0
    inv_std = 1 / np.sqrt(var + layer.eps)
    xhat = (x.numpy().astype(np.float64) - mean) * inv_std
    bounds.within_ulps(x.grad.numpy(), mask * gamma * inv_std, 4, policy.storage)
    bounds.within_ulps(layer.beta.grad.numpy(), mask.sum((0, 1, 2)).astype(float), 4, policy.statistics)
    magnitudes = (mask * np.abs(xhat)).sum((0, 1, 2))
    allowed = bounds.any_inputs(magnitudes, 2 * 8, policy.accumulate)
    bounds.bounded(layer.gamma.grad.numpy(), (mask * xhat).sum((0, 1, 2)), allowed, policy.statistics)


@pytest.mark.parametrize("form", ["native", "plain"])
def test_batch_norm_has_fp16_gradients_in_evaluation(backend_name: str, form: str) -> None:
    """A deviation of 1000, whose square binary16 has not: native statistics have its gradient."""
    policy = fe.Precision.get("fp16").changed(statistics_form=form)
    layer = nn.BatchNorm2d(1).to(backend_name, policy)
    layer(fe.tensor(np.array([[-1000], [1000]]), "float16", backend_name))
    layer.eval()
    x = fe.tensor(np.array([[500.0]]), "float16", backend_name, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    expected = 1e-3 if form == "native" else 0.0
    bounds.within_ulps(x.grad.numpy(), np.array([[expected]]), 1, "float16")
    bounds.within_ulps(y.numpy(), np.array([[500 * expected]]), 1, "float16")


def test_running_averages_are_those_of_all_batches_so_far(backend_name: str) -> None:
    """Without bias: the first batch is taken whole, the t-th with max(1 - m, 10 / (t + 9))."""
    rng = np.random.default_rng(0)
    for precision, tolerance in (("fp32", 1e-5), ("fp16", 1e-3)):
        layer = nn.BatchNorm2d(2, momentum=0.9).to(backend_name, precision)
        means, variances = [], []
        for t in range(1, 6):
            data = rng.normal(3, 2, (16, 2)).astype("float16")
            layer(fe.tensor(data, fe.Precision.get(precision).storage, backend_name))
            means.append(data.astype(np.float64).mean(0))
            variances.append(data.astype(np.float64).var(0))
            shares = np.array([max(0.1, 10 / (i + 9)) for i in range(1, t + 1)])
            weights = shares * np.append(np.cumprod((1 - shares)[:0:-1])[::-1], 1)
            assert abs(weights.sum() - 1) < 1e-12
            state = layer.state_dict()
            var = state["running_std"].astype(float) ** 2 if "rest" in state else state["running_var"]
            np.testing.assert_allclose(state["running_mean"], weights @ means, rtol=tolerance)
            np.testing.assert_allclose(var, weights @ variances, rtol=2 * tolerance)
            assert state["updates"].tolist() == [t]


def test_running_statistics_load_from_either_form(backend_name: str) -> None:
    native, plain = (fe.Precision.get("fp16").changed(statistics_form=form) for form in ("native", "plain"))
    x = fe.tensor(np.random.default_rng(0).normal(3, 2, (64, 2)), "float16", backend_name)
    layers = [nn.BatchNorm2d(2).to(backend_name, policy) for policy in (native, plain)]
    for layer in layers:
        layer(x)
    (left, right), names = (layer.state_dict() for layer in layers), {"running_std", "rest"}
    assert set(left) ^ set(right) == names | {"running_var"}
    other = [nn.BatchNorm2d(2).to(backend_name, policy).eval() for policy in (plain, native)]
    for taking, state in zip(other, (left, right), strict=True):
        taking.load_state_dict(state)
        bounds.within_ulps(taking(x).numpy(), layers[0].eval()(x).numpy().astype(float), 4, "float16")
        assert taking.updates.numpy().tolist() == [1]


def test_state_without_a_count_is_warm(backend_name: str) -> None:
    """As old checkpoints have it: the next batch takes the share 1 - momentum."""
    layer = nn.BatchNorm2d(1, momentum=0.75).to(backend_name)
    state = {name: values for name, values in layer.state_dict().items() if name != "updates"}
    layer.load_state_dict(state)
    layer(fe.tensor(np.array([[3.0], [5.0]]), device=backend_name))
    assert layer.running_mean.numpy().tolist() == [1.0]


def test_fused_relu_equals_relu(backend_name: str) -> None:
    x = images(4, 3, 3, 5, device=backend_name, dtype="float16")
    fused = nn.BatchNorm2d(5, activation="relu").to(backend_name, "fp16")
    plain = nn.BatchNorm2d(5).to(backend_name, "fp16")
    for _ in range(2):
        np.testing.assert_array_equal(fused(x).numpy(), fe.functional.relu(plain(x)).numpy())
        fused.eval(), plain.eval()


def test_dropout_only_in_training(backend_name: str) -> None:
    layer = nn.Dropout(0.5)
    x = fe.tensor(np.ones(64), device=backend_name)
    assert set(layer(x).numpy()) == {0.0, 2.0}
    assert layer.eval()(x) is x


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Linear(0, 3), ValueError, r"Linear: in_features must .* got 0"),
        (lambda: nn.Linear(2, HALVES), TypeError, r"Linear: out_features must .* got 1.5"),
        (lambda: nn.Conv2d(3, 8, 0), ValueError, r"Conv2d: size must .* got 0"),
        (lambda: nn.Conv2d(3, 8, (3, 3, 3)), TypeError, r"Conv2d: size must .* got \(3, 3, 3\)"),
        (
            lambda: nn.Conv2d(3, 8, 3, groups=2),
            ValueError,
            r"Conv2d: groups must .* got 2",
        ),
        (
            lambda: nn.BatchNorm2d(3, activation="swish"),
            ValueError,
            r"BatchNorm2d: activation must .* got 'swish'",
        ),
        (lambda: nn.Dropout(1.0), ValueError, r"Dropout: p must .* got 1.0"),
        (
            lambda: nn.MultiHeadAttention(8, 3),
            ValueError,
            r"MultiHeadAttention: num_heads must .* got 3",
        ),
    ],
)
def test_wrong_arguments(make: Callable, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
