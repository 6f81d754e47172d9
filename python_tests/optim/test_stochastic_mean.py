"""Stochastic updates on the mean, and on every bit: the exact w - u is rounded, not its float32."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.backend.reference.stochastic import subtract_stochastic
from fp16engine.optim import SGD

SHARES = (2.0**-2, 2.0**-8, 1.3e-3, 3.2e-4, 5.5e-5, 1e-5)  # of a gap


def moved(share: float, draws: int, device: str, dtype: str = "float16") -> tuple[float, float]:
    """Return mean / u and its standard error, of weights of 0.75 after one update u each."""
    gap = bounds.EPS[dtype] / 2  # at 0.75
    p = fe.tensor(np.full(draws, 0.75, np.float32), dtype, device, requires_grad=True)
    p.grad = fe.tensor(np.ones(draws, np.float32), dtype, device)
    SGD([p], lr=share * gap, update="stochastic", seed=11).step()
    gone = 0.75 - p.numpy().astype(np.float64)
    assert set(np.unique(gone)) <= {0.0, gap}
    return float(gone.mean()) / (share * gap), ((1 - share) / (share * draws)) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
def test_ten_million_draws(cpu: Any, share: float) -> None:
    ratio, error = moved(share, 10**7, "cpu")
    assert abs(ratio - 1) <= 3 * error


@pytest.mark.slow
@pytest.mark.parametrize("dtype", bounds.SIXTEEN_BIT)
@pytest.mark.parametrize("share", SHARES)
def test_a_million_draws(backend_name: str, share: float, dtype: str) -> None:
    ratio, error = moved(share, 10**6, backend_name, dtype)
    assert abs(ratio - 1) <= 3 * error


@pytest.mark.parametrize("dtype", bounds.SIXTEEN_BIT)
def test_the_exact_difference_decides(dtype: str) -> None:
    """Any pair of neighbours, across powers of two, subnormals and signs, against rational numbers."""
    rng = np.random.default_rng(5)
    w, u = pairs(rng, 5_000, dtype)
    drawn = rng.integers(0, 2**32, w.size)
    got = np.abs(subtract_stochastic(w.astype(np.float32), u, drawn, w.dtype)).astype(np.float64)
    finite = bounds.every_finite(dtype).astype(np.float64)
    for a, b, r, result in zip(w.tolist(), u.tolist(), drawn.tolist(), got.tolist(), strict=True):
        exact = abs(Fraction(a) - Fraction(b))
        if exact >= bounds.MAX[dtype]:
            continue
        i = int(np.searchsorted(finite, float(exact), "right"))
        i -= Fraction(finite[i - 1]) > exact
        i += Fraction(finite[i]) <= exact
        low, high = float(finite[i - 1]), float(finite[i])
        position = (exact - Fraction(low)) / (Fraction(high) - Fraction(low)) * 2**32
        # the kernel's position is right to one unit of 2^-32
        expected = {high if int(position) + k + r >= 2**32 else low for k in (-1, 0, 1)}
        assert result in expected, (a, b, r)


@pytest.mark.parametrize("dtype", bounds.SIXTEEN_BIT)
def test_a_zero_update_keeps_every_value(dtype: str) -> None:
    finite = bounds.every_finite(dtype)
    every = np.concatenate([finite, -finite]).astype(np.float32)
    for drawn in (0, 2**32 - 1):
        got = subtract_stochastic(every, np.zeros((), np.float32), drawn, finite.dtype)
        bounds.same_bits(got, every)


@pytest.mark.parametrize("dtype", bounds.SIXTEEN_BIT)
def test_the_same_bits_everywhere(backend_name: str, dtype: str) -> None:
    def stepped(device: str) -> tuple[np.ndarray, Any]:
        w, u = pairs(np.random.default_rng(6), 20_000, dtype)
        p = fe.tensor(w, dtype, device, requires_grad=True)
        p.grad = fe.tensor(np.clip(u, -6e4, 6e4), dtype, device)
        optimizer = SGD([p], lr=0.37, update="stochastic", seed=7)
        optimizer.step(count=True)
        return p.numpy(), optimizer.counts

    (got, counts), (expected, expected_counts) = stepped(backend_name), stepped("reference")
    bounds.same_bits(got, expected)
    np.testing.assert_array_equal(counts, expected_counts)


def pairs(rng: np.random.Generator, count: int, dtype: str = "float16") -> tuple[np.ndarray, np.ndarray]:
    """Return weights of a 16-bit type and of any size, and updates from 2^-40 to 2^14 gaps."""
    finite = bounds.every_finite(dtype)
    finite = finite[finite.astype(np.float64) < 0.9 * bounds.MAX[dtype]]
    w = rng.choice(finite, count) * rng.choice(np.array([-1, 1], finite.dtype), count)
    gap = np.spacing(np.abs(w)).astype(np.float64)
    u = gap * 2.0 ** rng.uniform(-40, 14, count) * rng.choice([-1.0, 1.0], count)
    u = np.clip(u, -bounds.MAX[dtype], bounds.MAX[dtype])
    return w, u.astype(np.float32)


@pytest.mark.slow
def test_kahan_has_no_floor(cpu: Any) -> None:
    """A compensation's gap is up to 2^-17 at 60, and never below 2^-24: both updates are below half of it."""
    for w, lr in ((60.0, 1e-6), (0.01, 3e-9)):
        p = fe.tensor(np.full(256, w, np.float16), "float16", "cpu", requires_grad=True)
        p.grad = fe.tensor(np.ones(256, np.float16), "float16", "cpu")
        start = p.numpy().astype(np.float64)
        optimizer = SGD([p], lr=lr, update="kahan")
        for _ in range(100_000):
            optimizer.step()
        pair = p.numpy().astype(np.float64) + optimizer.state_dict()["compensation.0"]
        # a single weight scatters by sqrt(steps * u * gap)
        np.testing.assert_allclose((start - pair).mean(), lr * 100_000, rtol=0.01)


@pytest.mark.parametrize("dtype", bounds.SIXTEEN_BIT)
def test_a_compensation_has_the_same_bits_everywhere(backend_name: str, dtype: str) -> None:
    def stepped(device: str) -> list[np.ndarray]:
        rng = np.random.default_rng(8)
        w, u = pairs(rng, 5_000, dtype)
        p = fe.tensor(w, dtype, device, requires_grad=True)
        optimizer = SGD([p], lr=0.37, update="kahan", seed=7)
        counts = []
        for _ in range(4):
            p.grad = fe.tensor(np.clip(rng.permutation(u), -6e4, 6e4), dtype, device)
            optimizer.step(count=True)
            counts.append(optimizer.counts)
        return [p.numpy(), optimizer.state_dict()["compensation.0"], np.array(counts)]

    for got, expected in zip(stepped(backend_name), stepped("reference"), strict=True):
        bounds.same_bits(got, expected)
