"""Batch and layer normalisation with FP32 accumulators: statistics bounded, what follows them bit by bit.

Binary16 accumulators are compared bit for bit in test_op_cases.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import bounds
import numpy as np
import pytest
from op_case import Case, arrays, call, mapped
from op_cases import CASES

from fp16engine.backend.reference.norm import share_taken


def _cases(method: str) -> dict[str, tuple[Case, str, str]]:
    """Return (case, values, dtype) by name."""
    return {
        f"{case.name}-{values}-{dtype}": (case, values, dtype)
        for case in CASES
        if case.method == method
        for values in case.ranges
        for dtype in case.storage
    }


def _normalised(a: Any, mean: np.ndarray, inv_std: np.ndarray, activation: str | None) -> np.ndarray:
    """Replay the documented order, in binary32 and rounded once, from the statistics a backend returned."""
    x, gamma, beta = (a[name].astype(np.float32) for name in ("x", "gamma", "beta"))
    t = x - mean.astype(np.float32)
    t = t * inv_std.astype(np.float32)
    t = t * gamma + beta
    if a.get("residual") is not None:
        t = t + a["residual"].astype(np.float32)
    y = bounds.rounded(t, a["x"].dtype.name)
    if activation:
        y = np.where(y <= 0, np.zeros_like(y), y)
    return np.where(y >= 6, np.full_like(y, 6), y) if activation == "relu6" else y


def _statistics(a: Any, axes: tuple[int, ...], eps: float, mean: np.ndarray, inv_std: np.ndarray) -> None:
    """Bound mean and 1 / sqrt(var + eps) of a["x"] over `axes`."""
    x = a["x"].astype(np.float64)
    count = int(np.prod([x.shape[axis] for axis in axes]))
    accumulated = bounds.any_inputs(np.abs(x).sum(axes) / count, count, "float32")
    bounds.bounded(mean, x.mean(axes), accumulated, mean.dtype.name)
    exact = 1 / np.sqrt(x.var(axes) + eps)
    bounds.bounded(inv_std, exact, bounds.inverse_std(exact, count, "float32"), inv_std.dtype.name)


def test_batch_norm_forward(for_each: Any, backend: Any) -> None:
    for_each(_cases("batch_norm_forward"), partial(_batch_norm_forward, backend))


def _batch_norm_forward(backend: Any, case: Case, values: str, dtype: str) -> None:
    a = arrays(case, values, dtype)
    outputs: list[Any] = call(backend, case, a, "float32")
    y, mean, inv_std, s, running_mean, running_var, *counted = outputs
    assert (s is None) == ("addend" not in a and "joined" not in a)
    if s is not None:
        put = np.concatenate([a["x"], a["joined"]], axis=-1) if "joined" in a else a["x"] + a["addend"]
        bounds.same_bits(s, put)
        a["x"] = s
    axes = tuple(range(a["x"].ndim - 1))
    assert mean is not None and inv_std is not None and y is not None
    _statistics(a, axes, case.arguments["eps"], mean, inv_std)
    bounds.same_bits(y, _normalised(a, mean, inv_std, case.arguments["activation"]))

    x, momentum = a["x"].astype(np.float64), case.arguments["momentum"]
    if counted:
        np.testing.assert_array_equal(counted[0], a["updates"] + 1)
        momentum = 1 - share_taken(momentum, int(counted[0][0]))
    count = x.size // x.shape[-1]
    if "rest" in a:
        _averaged_deviations(a, momentum, (running_mean, running_var, counted[1]))
        return
    for got, before, batch, magnitude in (
        (running_mean, a["running_mean"], x.mean(axes), np.abs(x).mean(axes)),
        (running_var, a["running_var"], x.var(axes), x.var(axes)),
    ):
        assert got is not None
        kept, added = momentum * before.astype(np.float64), (1 - momentum) * batch
        summed = (1 - momentum) * bounds.any_inputs(magnitude, count + 2, "float32")
        moved = bounds.any_inputs(np.abs(kept) + np.abs(added), 2, "float32")
        bounds.bounded(got, kept + added, summed + moved, got.dtype.name)


def _averaged_deviations(a: Any, kept: float, got: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Running mean and standard deviation, each with its rest, to 20 bits, and the rest under half an ulp."""
    x, rest = (a[name].astype(np.float64) for name in ("x", "rest"))
    axes = tuple(range(x.ndim - 1))
    mean = kept * (a["running_mean"] + rest[0]) + (1 - kept) * x.mean(axes)
    var = kept * (a["running_var"] + rest[1]) ** 2 + (1 - kept) * x.var(axes)
    sizes = np.abs(a["running_mean"]) + np.abs(rest[0]) + np.abs(x).mean(axes), np.sqrt(var)
    for running, lost, exact, size in zip(got[:2], got[2], (mean, np.sqrt(var)), sizes, strict=True):
        wide = running.astype(np.float64)
        assert (np.abs(wide + lost - exact) <= 2.0**-20 * size + 2.0**-24).all()
        assert (np.abs(lost) <= bounds.ulp(wide, "float16") / 2).all()


def test_layer_norm_forward(for_each: Any, backend: Any) -> None:
    for_each(_cases("layer_norm_forward"), partial(_layer_norm_forward, backend))


def _layer_norm_forward(backend: Any, case: Case, values: str, dtype: str) -> None:
    a = arrays(case, values, dtype)
    y, mean, inv_std = call(backend, case, a, "float32")
    assert mean is not None and inv_std is not None and y is not None
    _statistics(a, (a["x"].ndim - 1,), case.arguments["eps"], mean, inv_std)
    bounds.same_bits(y, _normalised(a, mean[..., None], inv_std[..., None], None))


@pytest.mark.parametrize("method", ["batch_norm_backward", "layer_norm_backward"])
def test_backward(for_each: Any, backend: Any, reference: Any, method: str) -> None:
    """dgamma and dbeta are sums, bounded in any order; dx is a composite of them."""
    for_each(_cases(method), partial(_backward, backend, reference))


def _backward(backend: Any, reference: Any, case: Case, values: str, dtype: str) -> None:
    a = arrays(case, values, dtype)
    dx, *sums = call(backend, case, a, "float32")
    naive, *naive_sums = call(reference, case, a, "float32")
    exact, *exact_sums = call(reference, case, mapped(a, lambda x: x), "float32")
    assert dx is not None and naive is not None and exact is not None
    bounds.relative(dx, naive, exact, dtype)
    if case.arguments.get("split") is not None:
        right, naive_right, exact_right = sums[2], naive_sums[2], exact_sums[2]
        assert right is not None and naive_right is not None and exact_right is not None
        bounds.relative(right, naive_right, exact_right, dtype)
    if case.method == "batch_norm_backward":
        _further_gradients(case, a, dx, *sums[2:])

    x, mean, inv_std, dy = (a[name].astype(np.float64) for name in ("x", "mean", "inv_std", "dy"))
    if case.method == "layer_norm_backward":
        mean, inv_std = mean[..., None], inv_std[..., None]
    rows = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1] + 3  # forming dy * xhat takes three roundings more
    for got, expected, terms in zip(sums[:2], exact_sums[:2], (dy * (x - mean) * inv_std, dy), strict=True):
        assert got is not None and expected is not None
        accumulated = bounds.any_inputs(np.abs(terms).sum(rows), count, "float32")
        bounds.bounded(got, expected, accumulated, got.dtype.name)


def _further_gradients(
    case: Case, a: Any, dx: np.ndarray, dr: np.ndarray | None = None, db: np.ndarray | None = None
) -> None:
    """The residual's gradient is a choice, bit by bit; the sums are those of the dx that was returned.

    Of channels that were joined, both parts are looked at together.
    """
    if case.arguments.get("split") is not None:
        assert dr is not None and db is None
        return
    assert (dr is None) == ("y" not in a) and (db is None) != case.arguments.get("sums", False)
    if dr is not None:
        below = a["y"] < 6 if case.arguments["activation"] == "relu6" else True
        bounds.same_bits(dr, np.where((a["y"] > 0) & below, a["dy"], np.zeros_like(a["dy"])))
    if db is not None:
        rows = tuple(range(dx.ndim - 1))
        stored, count = dx.astype(np.float64), dx.size // dx.shape[-1]
        accumulated = bounds.any_inputs(np.abs(stored).sum(rows), count, "float32")
        bounds.bounded(db, stored.sum(rows), accumulated, dx.dtype.name)


def _balanced(dtype: str) -> np.ndarray:
    """Return x (2, 4, 4, 3) of +1 and -1 with mean 0 and variance 1 per channel."""
    rng = np.random.default_rng(0)
    return rng.permuted(np.resize([1.0, -1.0], (32, 3)), axis=0).reshape(2, 4, 4, 3).astype(dtype)


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize(
    ("dtype", "acc"), [("float16", "float16"), ("float16", "float32"), ("float32", "float32")]
)
def test_exact_batch_norm(backend: Any, dtype: str, acc: str, activation: str | None) -> None:
    """With variance 1 and eps 3 every value is a small multiple of a power of two: equality throughout."""
    x = _balanced(dtype)
    gamma, beta, old_mean, old_var = (
        np.array(v, dtype) for v in ([2, -4, 1], [1, 6, -3], [4, 8, -2], [3, 5, 7])
    )
    given = [backend.from_numpy(v) for v in (x, gamma, beta, old_mean, old_var)]
    result = backend.batch_norm_forward(*given, 0.5, 3.0, activation, acc)
    y, mean, inv_std = (np.array(backend.to_numpy(v)) for v in result[:3])
    plain = x / 2 * gamma + beta
    least = 0 if activation else -np.inf
    most = 6 if activation == "relu6" else np.inf
    np.testing.assert_array_equal(y, np.clip(plain, least, most))
    np.testing.assert_array_equal(mean, np.zeros(3))
    np.testing.assert_array_equal(inv_std, np.full(3, 0.5))
    np.testing.assert_array_equal(backend.to_numpy(given[3]), old_mean / 2)
    np.testing.assert_array_equal(backend.to_numpy(given[4]), (old_var + 1) / 2)

    dy = np.random.default_rng(1).integers(-2, 3, x.shape).astype(dtype)
    statistics = [backend.from_numpy(v) for v in (mean, inv_std, dy)]
    gradients = backend.batch_norm_backward(*given[:3], *statistics, activation, acc)
    dx, dgamma, dbeta = (np.array(backend.to_numpy(v)) for v in gradients[:3])
    g = np.where((plain > least) & (plain < most), dy, 0).astype(np.float64)
    xhat = x.astype(np.float64) / 2
    np.testing.assert_array_equal(dbeta, g.sum((0, 1, 2)))
    np.testing.assert_array_equal(dgamma, (g * xhat).sum((0, 1, 2)))
    expected = gamma.astype(np.float64) / 2 * (g - g.mean((0, 1, 2)) - xhat * (g * xhat).mean((0, 1, 2)))
    np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_nan_reaches_its_channel_alone(backend: Any, dtype: str) -> None:
    x = _balanced(dtype)
    x[0, 1, 2, 1] = np.nan
    vectors = [np.array([v] * 3, dtype) for v in (1, 0, 0, 1)]
    y = backend.to_numpy(
        backend.batch_norm_forward(
            *(backend.from_numpy(v) for v in (x, *vectors)), 0.9, 1e-3, "relu6", "float32"
        )[0]
    )
    assert np.isnan(y[..., 1]).all()
    assert np.isfinite(y[..., [0, 2]]).all()


@pytest.mark.parametrize("acc", ["float16", "float32"])
def test_standard_deviations_reach_as_far_as_binary16(backend: Any, acc: str) -> None:
    """x of ±20000 and of ±0.001: variances that binary16 has not, and deviations that it has."""
    sizes = np.array([20000, 1, 1e-3])
    x = (_balanced("float16").astype(np.float64) * sizes).astype(np.float16)
    zeros, ones = np.zeros(3, np.float16), np.ones(3, np.float16)
    given = [backend.from_numpy(v) for v in (x, ones, zeros, zeros, ones)]
    updates, rest = (backend.from_numpy(v) for v in (np.zeros(1, np.int64), np.zeros((2, 3), np.float16)))
    y = backend.batch_norm_forward(*given, 0.99, 1e-12, None, acc, None, None, updates, rest)[0]
    np.testing.assert_allclose(np.abs(backend.to_numpy(y).astype(np.float64)), 1, rtol=2e-3)
    deviation = backend.to_numpy(given[4]).astype(np.float64)
    np.testing.assert_allclose(deviation, sizes.astype(np.float16), rtol=2e-3)  # right from the first step
    y = backend.batch_norm_inference(*given, 1e-12, None, None, True)
    np.testing.assert_allclose(np.abs(backend.to_numpy(y).astype(np.float64)), 1, rtol=2e-3)


@pytest.mark.slow
def test_small_updates_of_a_running_average_add_up(backend: Any) -> None:
    """The mean comes from 980 to 1000 by steps far below half a gap of 0.5: it must arrive."""
    x = np.full((4, 1), 1000, np.float16)
    x[:2] += 1
    x[2:] -= 1
    vectors = [np.array([v], np.float16) for v in (1, 0, 980, 1)]
    given = [backend.from_numpy(v) for v in (x, *vectors)]
    rest = backend.from_numpy(np.zeros((2, 1), np.float16))
    for _ in range(1500):
        backend.batch_norm_forward(*given, 0.99, 1e-3, None, "float32", None, None, None, rest)
    assert backend.to_numpy(given[3])[0] == 1000
