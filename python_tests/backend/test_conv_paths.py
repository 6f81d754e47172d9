"""The ways in which the CPU computes convolutions: in place, by the packed product, or a filter a channel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from bounds import same_bits

from fp16engine import backend as backends
from fp16engine.errors import BackendUnavailable

try:
    CPU: Any = backends.get("cpu")
except BackendUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)


class Case(NamedTuple):
    """Images N of (H, W, C), K filters of (R, S), strides, padding (top, bottom, left, right)."""

    N: int
    H: int
    W: int
    C: int
    K: int
    R: int = 1
    S: int = 1
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1


def _random(index: int) -> Case:
    """Any geometry that has an output; every third case is depthwise."""
    rng = np.random.default_rng(index)
    R, S = (int(n) for n in rng.integers(1, 8, 2))
    top, bottom, left, right = (int(n) for n in rng.integers(0, 4, 4))
    H, W = (
        int(rng.integers(max(1, k - before - after), 30))
        for k, before, after in ((R, top, bottom), (S, left, right))
    )
    C, K = (int(n) for n in rng.integers(1, 70, 2))
    groups, C = (C + 1, C + 1) if index % 3 == 0 else (1, C)
    strides = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    return Case(int(rng.integers(1, 6)), H, W, C, groups if groups > 1 else K, R, S, strides,
                (top, bottom, left, right), groups)  # fmt: skip


CASES = {
    "in-place": Case(3, 20, 21, 5, 40, 3, 3, pads=(1, 1, 1, 1)),
    "in-place-many-blocks": Case(2, 45, 40, 3, 16, 3, 3, (1, 1), (2, 0, 0, 2)),
    "in-place-long-runs": Case(2, 12, 11, 130, 33, 3, 3, pads=(1, 1, 1, 1)),
    "in-place-strides": Case(3, 17, 16, 20, 70, 7, 7, (2, 2), (3, 3, 3, 3)),
    "in-place-pointwise-strides": Case(2, 33, 31, 20, 17, strides=(2, 3), pads=(1, 0, 2, 0)),
    "in-place-several-images": Case(50, 5, 5, 6, 18, 3, 3, pads=(1, 1, 1, 1)),
    "in-place-more-padding-than-image": Case(2, 3, 40, 9, 20, 5, 5, pads=(4, 4, 4, 4)),
    **{f"random-{index}": _random(index) for index in range(16)},
    "pointwise": Case(70, 4, 4, 80, 200),
    "pointwise-padded": Case(3, 2, 2, 80, 40, pads=(1, 0, 0, 1)),
    "long-weight-gradient": Case(300, 3, 3, 40, 36),  # 2 700 terms: several lanes
    "pointwise-strides": Case(5, 5, 4, 96, 33, strides=(2, 2)),
    "3x3": Case(9, 4, 4, 70, 50, 3, 3, pads=(1, 1, 1, 1)),
    "3x3-strides": Case(9, 5, 6, 70, 50, 3, 3, (2, 2), (0, 1, 1, 1)),
    "mixed-strides": Case(4, 5, 6, 70, 50, 3, 2, (3, 1), (1, 0, 1, 1)),
    "wider-stride-than-filter": Case(4, 5, 5, 90, 50, 1, 2, (3, 3)),
    "stride-beyond-the-image": Case(4, 2, 2, 70, 50, 2, 2, (5, 3), (1, 1, 1, 1)),
    "one-pixel": Case(2, 1, 1, 300, 310, 3, 3, pads=(1, 1, 1, 1)),
    "depthwise": Case(40, 4, 4, 70, 70, 3, 3, pads=(1, 1, 1, 1), groups=70),
    "depthwise-strides": Case(5, 3, 4, 20, 20, 3, 2, (2, 3), (1, 0, 1, 2), 20),
    "depthwise-one-pixel": Case(3, 1, 1, 130, 130, 5, 5, pads=(2, 2, 2, 2), groups=130),
    "depthwise-stride-beyond-the-image": Case(2, 2, 3, 16, 16, 2, 2, (4, 5), (1, 1, 0, 1), 16),
}


def _output(case: Case) -> tuple[int, int]:
    top, bottom, left, right = case.pads
    return (
        (case.H + top + bottom - case.R) // case.strides[0] + 1,
        (case.W + left + right - case.S) // case.strides[1] + 1,
    )


def _draw(case: Case, largest: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integers of at most `largest`, mostly zeros, so that sums of halves are exact, too."""
    rng = np.random.default_rng(len(str(case)))

    def draw(*shape: int) -> np.ndarray:
        return (rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < 0.2)).astype(dtype)

    return (
        draw(case.N, case.H, case.W, case.C),
        draw(case.K, case.R, case.S, case.C // case.groups),
        draw(case.N, *_output(case), case.K),
    )


def _expected(case: Case, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
    """Return y, dx, dw and db in float64, position by position of the filter."""
    x, w, dy = (a.astype(np.float64) for a in (x, w, dy))
    top, bottom, left, right = case.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    d_padded, y, dw = np.zeros_like(padded), np.zeros(dy.shape), np.zeros(w.shape)
    OH, OW = _output(case)
    for group in range(case.groups):
        c, k = (slice(group * n // case.groups, (group + 1) * n // case.groups) for n in (case.C, case.K))
        for r in range(case.R):
            for s in range(case.S):
                read = (
                    slice(None),
                    slice(r, r + (OH - 1) * case.strides[0] + 1, case.strides[0]),
                    slice(s, s + (OW - 1) * case.strides[1] + 1, case.strides[1]),
                    c,
                )
                y[..., k] += padded[read] @ w[k, r, s].T
                d_padded[read] += dy[..., k] @ w[k, r, s]
                dw[k, r, s] = np.einsum("nhwk,nhwc->kc", dy[..., k], padded[read])
    return [y, d_padded[:, top : top + case.H, left : left + case.W], dw, dy.sum(axis=(0, 1, 2))]


def _run(case: Case, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
    y = np.empty(dy.shape, x.dtype)
    dx, dw, db = np.empty_like(x), np.empty_like(w), np.empty(case.K, x.dtype)
    CPU.native.conv2d_forward(x, w, None, y, *case.strides, case.pads, case.groups, 0)
    CPU.native.conv2d_backward(x, w, dy, dx, dw, db, *case.strides, case.pads, case.groups, 0)
    return [y, dx, dw, db]


@pytest.fixture
def _as_before() -> Iterator[None]:
    isa, threads = CPU.native.isa(), CPU.native.num_threads()
    yield
    CPU.native.select_isa(isa)
    CPU.native.set_num_threads(threads)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_sums_of_integers_are_exact(name: str, dtype: str) -> None:
    case = CASES[name]
    arrays = _draw(case, 2, dtype)
    expected = _expected(case, *arrays)
    assert all(np.abs(e).max(initial=0) <= 2048 for e in expected)
    for got, wanted in zip(_run(case, *arrays), expected, strict=True):
        same_bits(got + np.asarray(0, dtype), wanted.astype(dtype) + np.asarray(0, dtype))  # -0 and 0 alike


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_for_any_number_of_threads_and_instruction_set(name: str) -> None:
    case = CASES[name]
    rng = np.random.default_rng(3)
    x, w, dy = (rng.standard_normal(a.shape).astype(np.float16) for a in _draw(case, 1, "float16"))
    expected = _run(case, x, w, dy)
    for isa in ("portable", "avx2", "avx512"):
        try:
            CPU.native.select_isa(isa)
        except (RuntimeError, ValueError):
            continue  # this machine has none
        for threads in (1, 2, 4):
            CPU.native.set_num_threads(threads)
            for got, wanted in zip(_run(case, x, w, dy), expected, strict=True):
                same_bits(got, wanted)
