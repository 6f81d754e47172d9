"""Dot products in block floating point are the stored ones of operands rounded along their own reduction."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest

from fp16engine.backend.blocks import Blocks
from fp16engine.block_format import BlockFormat

FORMATS = ("hbfp4", "hbfp6-b16", "hbfp3-t4", "hbfp5-b8-sr")
CONVOLUTIONS = {
    "narrow": ((2, 9, 7, 3), (5, 3, 3, 3), (1, 1), (1, 1, 1, 1), 1),
    "stride": ((2, 8, 9, 16), (33, 3, 3, 16), (2, 2), (0, 1, 0, 1), 1),
    "point": ((1, 5, 5, 70), (8, 1, 1, 70), (1, 1), (0, 0, 0, 0), 1),
    "groups": ((2, 5, 6, 8), (12, 3, 3, 4), (1, 1), (1, 1, 1, 1), 2),
    "depthwise": ((2, 5, 70, 6), (6, 3, 3, 1), (1, 1), (1, 1, 1, 1), 6),
    "tail": ((70, 8, 8, 8), (8, 3, 3, 8), (1, 1), (1, 1, 1, 1), 1),
}


class Rounded:
    """Rounds arrays by the reference, in the order of a call."""

    def __init__(self, reference: Any, fmt: BlockFormat) -> None:
        self.reference, self.fmt = reference, fmt

    def __call__(self, x: np.ndarray, *shape: int, axis: int) -> np.ndarray:
        y = self.reference.quantize(x, Blocks(shape, axis), self.fmt)  # type: ignore[arg-type]
        seed, counter = self.fmt.draw
        self.fmt = self.fmt.drawing(seed, counter + -(-x.size // 4))
        return np.asarray(y)


def _draw(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(shape)
    return (rng.standard_normal(shape) * np.exp2(rng.integers(-6, 6, shape))).astype(np.float32)


def _same(backend: Any, got: Any, expected: Any) -> None:
    bounds.same_bits(np.asarray(backend.to_numpy(got)), np.asarray(backend.to_numpy(expected)))


@pytest.fixture(params=FORMATS)
def fmt(request: pytest.FixtureRequest) -> BlockFormat:
    return BlockFormat.named(request.param).drawing(11, 2**32 - 2)


@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
def test_matmul_blocks_along_the_inner_axis(
    backend: Any, reference: Any, fmt: BlockFormat, transposed: tuple[bool, bool]
) -> None:
    m, k, n = 7, 70, 18
    a = _draw(2, *((k, m) if transposed[0] else (m, k)))
    b = _draw(2, *((n, k) if transposed[1] else (k, n)))
    rounded = Rounded(reference, fmt)
    left = rounded(a, *a.shape, axis=1 if transposed[0] else 2)
    right = rounded(b, *b.shape, axis=2 if transposed[1] else 1)
    device = [backend.from_numpy(v) for v in (a, b, left, right)]
    _same(
        backend,
        backend.matmul(*device[:2], *transposed, "float32", fmt),
        backend.matmul(*device[2:], *transposed, "float32"),
    )


def test_linear_has_three_products_of_six_roundings(backend: Any, reference: Any, fmt: BlockFormat) -> None:
    x, w, dy, b = _draw(9, 70), _draw(5, 70), _draw(9, 5), _draw(5)
    given = [backend.from_numpy(v) for v in (x, w, dy, b)]
    rounded = Rounded(reference, fmt)
    forward = [backend.from_numpy(rounded(v, 1, *v.shape, axis=2)) for v in (x, w)]
    _same(
        backend,
        backend.linear_forward(given[0], given[1], given[3], "float32", fmt),
        backend.linear_forward(*forward, given[3], "float32"),
    )
    rounded = Rounded(reference, fmt)
    data = [
        backend.from_numpy(rounded(dy, 1, 9, 5, axis=2)),
        backend.from_numpy(rounded(w, 1, 5, 70, axis=1)),
    ]
    weights = [backend.from_numpy(rounded(v, 1, *v.shape, axis=1)) for v in (dy, x)]
    dx, dw, db = backend.linear_backward(*given[:3], (True, True, True), "float32", fmt)
    _same(backend, dx, backend.matmul(*data, False, False, "float32"))
    _same(backend, dw, backend.matmul(*weights, True, False, "float32"))
    _same(backend, db, backend.linear_backward(*given[:3], (False, False, True), "float32")[2])


@pytest.mark.parametrize("label", CONVOLUTIONS)
def test_convolution_blocks_follow_each_product(
    backend: Any, reference: Any, fmt: BlockFormat, label: str
) -> None:
    x_shape, w_shape, stride, pads, groups = CONVOLUTIONS[label]
    x, w, b = _draw(*x_shape), _draw(*w_shape), _draw(w_shape[0])
    settings = (stride, pads, groups)
    n, h, v, c = x_shape
    k, kh, kw, cg = w_shape

    def rows(rounded: Rounded, images: np.ndarray) -> np.ndarray:
        count, height, width, channels = images.shape
        if groups == 1:
            return rounded(images, count, height, width * channels, axis=2)
        if groups == c:
            return rounded(images, count * height, width, channels, axis=1)
        return rounded(images, count, height * width * groups, channels // groups, axis=2)

    given = [backend.from_numpy(a) for a in (x, w, b)]
    rounded = Rounded(reference, fmt)
    forward = [backend.from_numpy(a) for a in (rows(rounded, x), rounded(w, 1, k, kh * kw * cg, axis=2))]
    y = backend.conv2d_forward(*given, *settings, "float32", fmt)
    _same(backend, y, backend.conv2d_forward(*forward, given[2], *settings, "float32"))

    dy = _draw(*y.shape)
    rounded = Rounded(reference, fmt)
    dy_rows = rows(rounded, dy)
    by_input = np.ascontiguousarray(w.reshape(groups, k // groups, kh, kw, cg).transpose(0, 4, 2, 3, 1))
    w_rounded = rounded(by_input, 1, groups * cg, kh * kw * (k // groups), axis=2)
    w_back = np.ascontiguousarray(w_rounded.reshape(by_input.shape).transpose(0, 4, 2, 3, 1)).reshape(w.shape)
    x_pixels = rounded(x, n, h * v, c, axis=1)
    dy_pixels = rounded(dy, n, dy.shape[1] * dy.shape[2], k, axis=1)
    data = [backend.from_numpy(a) for a in (x, w_back, dy_rows)]
    weights = [backend.from_numpy(a) for a in (x_pixels, w, dy_pixels)]
    gradient = backend.from_numpy(dy)
    dx, dw, db = backend.conv2d_backward(*given[:2], gradient, *settings, (True,) * 3, "float32", fmt)
    _same(backend, dx, backend.conv2d_backward(*data, *settings, (True, False, False), "float32")[0])
    _same(backend, dw, backend.conv2d_backward(*weights, *settings, (False, True, False), "float32")[1])
    alone = backend.conv2d_backward(*given[:2], gradient, *settings, (False, False, True), "float32")
    _same(backend, db, alone[2])


def test_attention_rounds_all_six_products(backend: Any, fmt: BlockFormat) -> None:
    """Against the same steps one by one; stochastic words continue from product to product."""
    q, k, v, dy = (backend.from_numpy(_draw(2, 3, s, 20)) for s in (9, 11, 11, 9))
    operand, acc = fmt, "float32"

    def product(a: Any, b: Any, *transposed: bool) -> Any:
        nonlocal operand
        y = backend.matmul(a, b, *transposed, acc, operand)
        seed, counter = operand.draw
        used = sum(-(-int(np.prod(x.shape)) // 4) for x in (a, b))
        operand = operand.drawing(seed, counter + used)
        return y

    scaled = backend.binary("mul", q, 20**-0.5)
    probs = backend.softmax(product(scaled, k, False, True), -1, acc)
    y = product(probs, v, False, False)
    got = backend.attention_forward(q, k, v, False, None, acc, fmt)
    _same(backend, got[0], y)
    _same(backend, got[1], probs)
    operand = fmt
    ds = backend.softmax_backward(probs, product(dy, v, False, True), -1, acc)
    unscaled = product(ds, k, False, False)
    dk = product(ds, scaled, True, False)
    dv = product(probs, dy, True, False)
    dq, *others = backend.attention_backward(q, k, v, probs, dy, acc, fmt)
    _same(backend, dq, backend.binary("mul", unscaled, 20**-0.5))
    for a, b in zip(others, (dk, dv), strict=True):
        _same(backend, a, b)
