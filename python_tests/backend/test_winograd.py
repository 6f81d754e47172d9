"""Winograd's convolution: its definition's bits, bounds of its own, one result on every instruction set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.backend.reference import conv as direct
from fp16engine.backend.reference import winograd
from fp16engine.backend.reference.winograd import FOUR, TWO, Filter, Transform
from fp16engine.errors import UnsupportedPrecision

STRIDE = (1, 1)
DTYPES = ("float16", "float32")
THREADS = (1, 2, 4)


class Shape(NamedTuple):
    """Images (n, height, width, inputs), `outputs` channels, zeros around the images."""

    n: int
    height: int
    width: int
    inputs: int
    outputs: int
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)

    def __str__(self) -> str:
        return "x".join(map(str, self[:5])) + "-pads" + "".join(map(str, self.pads))

    @property
    def out(self) -> tuple[int, int, int, int]:
        """Return the shape of y."""
        top, bottom, left, right = self.pads
        return self.n, self.height + top + bottom - 2, self.width + left + right - 2, self.outputs


# Channels and sizes that lanes, panels of 64 and tiles do not cover; every padding; one pixel; both filters.
SHAPES = (
    Shape(2, 8, 8, 16, 16),
    Shape(3, 7, 10, 17, 33),
    Shape(1, 1, 1, 3, 2),
    Shape(4, 2, 2, 70, 40),
    Shape(2, 5, 6, 40, 24),
    Shape(2, 9, 4, 20, 130, (0, 0, 0, 0)),
    Shape(1, 6, 11, 66, 5, (0, 3, 2, 0)),
    Shape(2, 4, 3, 1, 48, (5, 0, 0, 4)),
    Shape(9, 16, 16, 16, 20),
)
LONG = Shape(130, 16, 16, 16, 16)  # every lane of sums has several blocks


class Arrays(NamedTuple):
    """What goes into the three passes."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    dy: np.ndarray


def _draw(shape: Shape, dtype: str, kind: str = "normal") -> Arrays:
    generator = np.random.default_rng(sum(shape[:5]))

    def values(*size: int) -> np.ndarray:
        if kind == "integers":
            return generator.integers(-1, 2, size).astype(dtype)
        return generator.standard_normal(size).astype(dtype)

    return Arrays(
        values(*shape[:4]),
        values(shape.outputs, 3, 3, shape.inputs),
        values(shape.outputs),
        values(*shape.out),
    )


def _run(backend: Any, shape: Shape, arrays: Arrays, algorithm: str = "winograd") -> list[np.ndarray]:
    """Return y, dx, dw, db."""
    x, w, b, dy = map(backend.from_numpy, arrays)
    y = backend.conv2d_forward(x, w, b, STRIDE, shape.pads, 1, "float32", algorithm=algorithm)
    gradients = backend.conv2d_backward(
        x, w, dy, STRIDE, shape.pads, 1, (True,) * 3, "float32", algorithm=algorithm
    )
    return [backend.to_numpy(a) for a in (y, *gradients)]


def _exactly(shape: Shape, arrays: Arrays) -> list[np.ndarray]:
    """Return y, dx, dw, db by the direct sum in float64."""
    x, w, b, dy = (a.astype(np.float64) for a in arrays)
    y = direct.conv2d_forward(x, w, b, STRIDE, shape.pads, 1, "float32")
    gradients = direct.conv2d_backward(x, w, dy, STRIDE, shape.pads, 1, (True,) * 3, "float32")
    return [y, *(g for g in gradients if g is not None)]


# --- the bound ----------------------------------------------------------------------------------------------


def _matrix(transform: Transform, size: int) -> np.ndarray:
    return np.array(transform(list(np.eye(size))))


def _magnitudes(f: Filter) -> Filter:
    """Return the filter whose matrices are the magnitudes of those of `f`."""

    def magnitude(transform: Transform, size: int) -> Transform:
        matrix = np.abs(_matrix(transform, size))
        return lambda x: list(np.tensordot(matrix, np.stack(x), 1))

    return Filter(
        f.outputs,
        magnitude(f.image, f.points),
        magnitude(f.result, f.points),
        magnitude(f.weights, 3),
        magnitude(f.gradient, f.outputs),
        magnitude(f.weight_gradient, f.points),
    )


# The most roundings that a term meets on its way through a transform, along one axis. Each term enters a
# result once, so a transform errs by at most this many u of the magnitudes' transform. A constant that is no
# float32 counts as one more.
ROUNDINGS = {"image": 2, "result": 3, "weights": 4, "gradient": 3, "weight_gradient": 5}


def _allowed(shape: Shape, arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Return how far y, dx, dw and db may be from the exact sums before they are stored.

    A result is a sum of terms that meet `depth` roundings at most; its error is at most depth * u, to first
    order, of the sum of the terms' magnitudes, that is of the same algorithm with all numbers replaced by
    their magnitudes.
    """
    x, w, b, dy = (np.abs(a.astype(np.float64)) for a in arrays)
    usual = winograd.filter_for
    with monkeypatch.context() as patch:
        patch.setattr(winograd, "filter_for", lambda *size: _magnitudes(usual(*size)))
        sums = (
            winograd.forward(x, w, b, shape.pads),
            winograd.data_gradient(x.shape, w, dy, shape.pads),
            winograd.weight_gradient(x, dy, shape.pads),
        )
    tiles = shape.n * np.prod(usual(*shape.out[1:3]).tiles(*shape.out[1:3]))
    product = 2 * (ROUNDINGS["image"] + ROUNDINGS["weights"] + ROUNDINGS["result"])
    gradient = 2 * (ROUNDINGS["image"] + ROUNDINGS["gradient"] + ROUNDINGS["weight_gradient"])
    depths = (product + shape.inputs + 1, product + shape.outputs, gradient + int(tiles))
    transformed = [depth * bounds.U["float32"] * s for depth, s in zip(depths, sums, strict=True)]
    return [*transformed, bounds.any_inputs(dy.sum((0, 1, 2)), dy[..., 0].size, "float32")]


@pytest.mark.parametrize("f", [TWO, FOUR], ids=["two", "four"])
def test_the_transforms_are_those_of_a_convolution(f: Filter) -> None:
    """A^T [(G w) * (B^T x)] is the sliding sum for every x and w; the gradients' matrices are transposes."""
    image, result, weights = (
        _matrix(t, n) for t, n in ((f.image, f.points), (f.result, f.points), (f.weights, 3))
    )
    filtered = np.einsum("op,pr,pi->ori", result, weights, image)
    wanted = np.zeros_like(filtered)
    for o in range(f.outputs):
        for r in range(3):
            wanted[o, r, o + r] = 1
    np.testing.assert_allclose(filtered, wanted, rtol=0, atol=f.points**2 * bounds.EPS["float64"])
    assert (_matrix(f.gradient, f.outputs) == result.T).all()
    np.testing.assert_allclose(
        _matrix(f.weight_gradient, f.points), weights.T, rtol=2 * bounds.EPS["float64"], atol=0
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_within_the_derived_bound(
    cpu: Any, shape: Shape, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = _draw(shape, dtype)
    allowed = _allowed(shape, arrays, monkeypatch)
    for got, exact, bound in zip(_run(cpu, shape, arrays), _exactly(shape, arrays), allowed, strict=True):
        bounds.bounded(got, exact, bound, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_bits_of_the_definition(cpu: Any, reference: Any, shape: Shape, dtype: str) -> None:
    """Results and data gradients have a defined order; weight gradients where all tiles are one block."""
    arrays = _draw(shape, dtype)
    names = ("y", "dx", "dw")
    for name, got, wanted in zip(
        names, _run(cpu, shape, arrays), _run(reference, shape, arrays), strict=False
    ):
        tiles = shape.n * np.prod(winograd.filter_for(*shape.out[1:3]).tiles(*shape.out[1:3]))
        if name != "dw" or tiles <= 16:
            bounds.same_bits(got, wanted)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_small_integers_are_exact_with_two_outputs(
    reference: Any, shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every number on the way is a multiple of 1/4 that float32 holds: an error would be one of indexing."""
    monkeypatch.setattr(winograd, "filter_for", lambda *size: TWO)
    arrays = _draw(shape, "float32", "integers")
    for got, exact in zip(_run(reference, shape, arrays), _exactly(shape, arrays), strict=True):
        np.testing.assert_array_equal(got, exact)


@contextmanager
def _as_before(cpu: Any) -> Iterator[None]:
    isa, threads = cpu.native.isa(), cpu.native.num_threads()
    try:
        yield
    finally:
        cpu.native.select_isa(isa)
        cpu.set_num_threads(threads)


@pytest.mark.parametrize("shape", (*SHAPES[1:5], LONG), ids=str)
def test_the_same_bits_for_any_number_of_threads(cpu: Any, shape: Shape) -> None:
    arrays = _draw(shape, "float16")
    with _as_before(cpu):
        runs = []
        for threads in (*THREADS, THREADS[0]):
            cpu.set_num_threads(threads)
            runs.append(_run(cpu, shape, arrays))
    for run in runs[1:]:
        for got, wanted in zip(run, runs[0], strict=True):
            bounds.same_bits(got, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_bits_on_every_instruction_set(cpu: Any, shape: Shape, dtype: str) -> None:
    arrays = _draw(shape, dtype)
    with _as_before(cpu):
        runs = []
        for isa in ("portable", "avx2", "avx512"):
            try:
                cpu.native.select_isa(isa)
            except ValueError:
                continue  # this machine, or this build, has it not
            runs.append(_run(cpu, shape, arrays))
    for run in runs[1:]:
        for got, wanted in zip(run[:3], runs[0][:3], strict=True):
            bounds.same_bits(got, wanted)


# --- where it is worse than the direct sum ------------------------------------------------------------------


def _one_value(value: float) -> Arrays:
    arrays = _draw(Shape(1, 16, 16, 16, 16), "float16")
    arrays.x[:] = 0
    arrays.x[0, 6, 6, 3] = value
    return arrays._replace(b=np.zeros_like(arrays.b))


def test_one_infinity_becomes_nan_over_its_tiles(cpu: Any) -> None:
    """Pixel 6 is in the tile of outputs 4 to 7 alone: 4x4 outputs, where the direct sum loses 3x3."""
    y = _run(cpu, Shape(1, 16, 16, 16, 16), _one_value(np.inf))[0]
    bad = ~np.isfinite(y).all(axis=-1)[0]
    assert bad[4:8, 4:8].all() and bad.sum() == 16
    assert np.isnan(y[0, 4:8, 4:8]).any()


def test_zeros_stay_zeros_outside_the_tile_alone(cpu: Any) -> None:
    """Within a tile, sums that cancel exactly in the direct sum leave what FP32 rounds."""
    y = _run(cpu, Shape(1, 16, 16, 16, 16), _one_value(1000.0))[0][0]
    tile = np.zeros((16, 16), bool)
    tile[4:8, 4:8] = True
    reached = np.zeros((16, 16), bool)
    reached[5:8, 5:8] = True
    assert (y[~tile] == 0).all()
    assert (y[tile & ~reached] != 0).any()


# --- who uses it --------------------------------------------------------------------------------------------


def _conv(channels: int = 16, kernel: int = 3, stride: int = 1, groups: int = 1) -> Callable[[], fe.Tensor]:
    x = fe.tensor(np.ones((1, 6, 6, channels), np.float32), requires_grad=True)
    w = fe.tensor(np.ones((channels, kernel, kernel, channels // groups), np.float32), requires_grad=True)
    return lambda: fe.functional.conv2d(x, w, stride=stride, padding="same", groups=groups)


@pytest.mark.parametrize(
    ("precision", "settings", "wanted"),
    [
        ("fp32", {}, "winograd"),
        ("fp32", {"channels": 15}, "direct"),
        ("fp32", {"kernel": 1}, "direct"),
        ("fp32", {"stride": 2}, "direct"),
        ("fp32", {"groups": 2}, "direct"),
        ("fp32+direct", {}, "direct"),
    ],
)
def test_the_audit_says_which_algorithm_ran(cpu: Any, precision: str, settings: Any, wanted: str) -> None:
    with fe.Precision.get(precision).use(), fe.numerics.Audit() as audit:
        _conv(**settings)().sum().backward()
    ran = {row.op: row.algorithm for row in audit.rows}
    assert ran["conv2d_forward"] == ran["conv2d_backward"] == wanted
    assert ran["sum"] == "none"


@pytest.mark.parametrize("name", ["fp16-strict", "fp16-chunk32", "hbfp4", "booster", "tf32"])
def test_policies_without_it_refuse_it(name: str) -> None:
    with pytest.raises(UnsupportedPrecision, match="convolution must be 'direct' but with stored operands"):
        fe.Precision.get(name).changed(convolution="winograd")


@pytest.mark.parametrize("wrong", [{"stride_w": 2}, {"groups": 2}, {"accumulator": 1}])
def test_the_module_refuses_other_convolutions(cpu: Any, wrong: dict[str, int]) -> None:
    settings = {"stride_h": 1, "stride_w": 1, "groups": 1, "accumulator": 0, **wrong}
    x, w = np.zeros((1, 5, 5, 4), np.float16), np.zeros((4, 3, 3, 4 // settings["groups"]), np.float16)
    y = np.zeros((1, 5, 3 if settings["stride_w"] == 2 else 5, 4), np.float16)
    with pytest.raises(ValueError, match="winograd must be False but for a 3x3 kernel"):
        cpu.native.conv2d_forward(x, w, None, y, pads=(1, 1, 1, 1), winograd=True, **settings)


def test_gradients_are_those_of_the_result(reference: Any) -> None:
    """In float64, against central differences."""
    shape = Shape(1, 5, 7, 2, 3)
    arrays = Arrays(*(a.astype(np.float64) for a in _draw(shape, "float64")))
    _, dx, dw, _ = _run(reference, shape, arrays)
    step = bounds.DIFFERENCE_STEP
    for name, gradient in (("x", dx), ("w", dw)):
        direction = np.random.default_rng(1).standard_normal(gradient.shape)
        ends = [
            _run(reference, shape, arrays._replace(**{name: getattr(arrays, name) + s * step * direction}))[0]
            for s in (1, -1)
        ]
        slope = ((ends[0] - ends[1]) / (2 * step) * arrays.dy).sum()
        assert abs(slope - (gradient * direction).sum()) <= bounds.DIFFERENCE_TOLERANCE * max(1, abs(slope))
