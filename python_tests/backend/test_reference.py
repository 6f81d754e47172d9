"""The reference against scalar code in exact rational arithmetic, and against facts of binary16."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import bounds
import numpy as np
import pytest

from fp16engine.backend.base import StepScalars

BLOCK = 32


def _half(x: Fraction) -> Fraction:
    """Return x rounded to the nearest finite half, ties to even, with one rounding."""
    if x == 0:
        return Fraction(0)
    exponent = max(math.frexp(float(abs(x)))[1] - 11, -24)
    unit = Fraction(2) ** exponent
    return round(x / unit) * unit  # Fraction rounds ties to even


def _strict(terms: Sequence[Fraction]) -> Fraction:
    """Return the documented sum: blocks of 32 in order, then a binary counter, every partial sum rounded."""
    counter: list[tuple[int, Fraction]] = []  # (level, sum), oldest first
    for first in range(0, len(terms), BLOCK):
        total = Fraction(0)
        for term in terms[first : first + BLOCK]:
            total = _half(total + term)
        level = 0
        while counter and counter[-1][0] == level:
            total = _half(counter.pop()[1] + total)
            level += 1
        counter.append((level, total))
    result = counter.pop()[1] if counter else Fraction(0)
    while counter:
        result = _half(counter.pop()[1] + result)
    return result


def _spread(count: int, seed: int) -> np.ndarray:
    """Return halves of very different size, so that sums cancel, stagnate and meet ties."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(count) * np.exp2(rng.integers(-20, 3, count))
    return values.astype(np.float16)


LENGTHS = (0, 1, 31, 32, 33, 64, 95, 96, 97, 224, 1000)


@pytest.mark.parametrize("length", LENGTHS)
def test_strict_sum_in_documented_order(reference: Any, length: int) -> None:
    for seed in range(5):
        x = _spread(length, seed)
        expected = _strict([Fraction(float(v)) for v in x])
        assert float(reference.sum(x, (0,), "float16")[0]) == float(expected)


@pytest.mark.parametrize("length", LENGTHS)
def test_strict_dot_is_fused(reference: Any, length: int) -> None:
    for seed in range(5):
        a, b = _spread(length, seed), _spread(length, seed + 100)
        expected = _strict([Fraction(float(p)) * Fraction(float(q)) for p, q in zip(a, b, strict=True)])
        got = reference.matmul(a[None], b[:, None], False, False, "float16")
        assert float(got[0, 0]) == float(expected)


def test_strict_dot_rounds_once(backend: Any) -> None:
    """1 + ulp and a hair less than half an ulp make 1 + ulp; in binary32 they would be a tie, and go up."""
    ulp = bounds.EPS["float16"]
    a = np.array([[1 + ulp, (1 + ulp) * 2**-5]], np.float16)
    b = np.array([[1], [(1 - ulp) * 2**-6]], np.float16)
    y = backend.matmul(backend.from_numpy(a), backend.from_numpy(b), False, False, "float16")
    assert float(backend.to_numpy(y)[0, 0]) == 1 + ulp


def test_conv_order_is_kernel_then_channel(reference: Any) -> None:
    """All terms of one pixel, in the order (kh, kw, c), zeros of the padding among them."""
    rng = np.random.default_rng(3)
    x, w = (rng.standard_normal(s).astype(np.float16) for s in ((1, 4, 4, 7), (1, 3, 3, 7)))
    y = reference.conv2d_forward(x, w, None, (1, 1), (1, 1, 1, 1), 1, "float16")
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for i, j in ((0, 0), (1, 2), (3, 3)):
        pairs = zip(padded[0, i : i + 3, j : j + 3].ravel(), w[0].ravel(), strict=True)
        assert float(y[0, i, j, 0]) == float(
            _strict([Fraction(float(a)) * Fraction(float(b)) for a, b in pairs])
        )


def test_weight_gradient_order_is_image_then_pixel(reference: Any) -> None:
    rng = np.random.default_rng(4)
    x, dy = (rng.standard_normal(s).astype(np.float16) for s in ((3, 5, 4, 2), (3, 5, 4, 1)))
    w = np.zeros((1, 1, 1, 2), np.float16)
    dw = reference.conv2d_backward(x, w, dy, (1, 1), (0,) * 4, 1, (False, True, False), "float16")[1]
    for c in range(2):
        pairs = zip(x[..., c].ravel(), dy.ravel(), strict=True)
        assert float(dw[0, 0, 0, c]) == float(
            _strict([Fraction(float(a)) * Fraction(float(b)) for a, b in pairs])
        )


def test_data_gradient_order_is_kernel_then_output_channel(reference: Any) -> None:
    rng = np.random.default_rng(5)
    w, dy = (rng.standard_normal(s).astype(np.float16) for s in ((7, 3, 3, 1), (1, 2, 2, 7)))
    x = np.zeros((1, 4, 4, 1), np.float16)
    pads, stride = (0, 1, 0, 1), (2, 2)
    dx = reference.conv2d_backward(x, w, dy, stride, pads, 1, (True, False, False), "float16")[0]
    for h in range(4):
        terms = []
        for kh, kw, k in np.ndindex(3, 3, 7):
            (oh, odd_h), (ow, odd_w) = divmod(h - kh, 2), divmod(2 - kw, 2)
            read = not odd_h and not odd_w and 0 <= oh < 2 and 0 <= ow < 2
            terms.append(
                Fraction(float(w[k, kh, kw, 0])) * Fraction(float(dy[0, oh, ow, k])) if read else Fraction(0)
            )
        assert float(dx[0, h, 2, 0]) == float(_strict(terms))


def test_bias_joins_the_strict_sum_with_its_own_rounding(reference: Any) -> None:
    x, w, b = (np.array(v, np.float16) for v in ([[1, 2**-12]], [[1, 1]], [2**-11]))
    fused = reference.linear_forward(x, w, b, "float32")
    strict = reference.linear_forward(x, w, b, "float16")
    assert float(fused[0, 0]) == 1 + bounds.EPS["float16"]  # 1 + 3/4 ulp, rounded once
    assert float(strict[0, 0]) == 1  # the sum is 1, the bias then a tie to even


def test_naive_sums_of_ones_would_stop_at_2048(reference: Any) -> None:
    ones = np.ones(20_000, np.float16)
    for acc in ("float16", "float32"):
        assert reference.sum(ones, (0,), acc)[0] == 20_000
    tenths = np.full(20_000, 0.1, np.float16)  # sequential binary16 accumulation gives 256
    exact = 20_000 * float(tenths[0])
    error = abs(float(reference.sum(tenths, (0,), "float16")[0]) - exact)
    assert error <= bounds.blocked(exact, len(tenths))


def test_mean_does_not_overflow_where_its_sum_does(reference: Any) -> None:
    ones = np.ones(70_000, np.float16)
    assert reference.mean(ones, (0,), "float32")[0] == 1
    assert np.isinf(reference.sum(ones, (0,), "float32")[0])


def test_variance_of_a_far_mean_is_not_negative(reference: Any) -> None:
    rng = np.random.default_rng(0)
    x = (8 + 0.1 * rng.standard_normal((1000, 1))).astype(np.float16)
    vector = [np.array([v], np.float16) for v in (1, 0, 0, 1)]
    inv_std = reference.batch_norm_forward(x, *vector, 0.99, 1e-3, None, "float32")[2]
    exact = 1 / np.sqrt(x.astype(np.float64).var() + 1e-3)
    bounds.within_ulps(inv_std, np.array([exact]), bounds.ROUNDED_ULPS["float16"], "float16")


def test_loss_scale_acts_before_the_division(reference: Any) -> None:
    logits, labels = np.zeros((1000, 1000), np.float16), np.zeros(1000, np.int64)
    scale = np.array(1024, np.float16)
    gradient = reference.cross_entropy_backward(logits, labels, scale, "float32")
    assert float(gradient[0, 1]) == float(np.float16(1.024e-3))  # 1.024e-6 without the scale is subnormal


def test_adam_uses_what_it_stores(reference: Any) -> None:
    """A second moment that underflows in storage counts as 0 in the step: the denominator is eps alone."""
    w, g, m, v = (np.array([value], np.float16) for value in (1, 1e-3, 0, 0))
    scalars = StepScalars(0.5, correction1=1 - 0.9, correction2=1 - 0.999)
    reference.adam(
        [w], [g], [m], [v], None, None, 0.9, 0.999, 1e-3, False, False, [0.0], False, [0], scalars, None
    )
    assert v[0] == 0
    step = np.float64(0.5) * float(g[0]) / float(np.float16(1e-3))
    bounds.within_ulps(w, np.array([1 - step]), 1, "float16")


def test_memory_counts_arrays_alive(reference: Any) -> None:
    gc.collect()
    before = reference.memory()["current"]
    x = reference.zeros((10, 10), "float16")
    view = x.reshape(100)
    assert reference.memory()["current"] - before == 200
    del x
    assert reference.memory()["current"] - before == 200  # the view holds it
    del view
    assert reference.memory()["current"] == before
    reference.reset_peak()
    assert reference.memory()["peak"] == before


def test_inputs_are_never_written(backend: Any) -> None:
    host = np.ones((3, 4), np.float16)
    x = backend.from_numpy(host)
    backend.to_numpy(backend.binary("add", x, x))
    backend.to_numpy(backend.unary("neg", x))
    np.testing.assert_array_equal(backend.to_numpy(x), host)
    backend.copy(x)[...] = 0
    host[...] = 7
    np.testing.assert_array_equal(backend.to_numpy(x), np.ones((3, 4), np.float16))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_all_finite(backend: Any, value: float) -> None:
    fine = backend.from_numpy(np.full((17, 33), bounds.MAX["float16"], np.float16))
    assert backend.all_finite([fine, fine]) is True
    assert backend.all_finite([]) is True
    for place in ((0, 0), (16, 32), (7, 3)):
        host = np.zeros((17, 33), np.float16)
        host[place] = value
        assert backend.all_finite([fine, backend.from_numpy(host)]) is False
    wide = np.array([bounds.MAX["float32"], value], np.float32)
    assert backend.all_finite([backend.from_numpy(wide)]) is False
