"""The source of the GPU's matrix products (csrc/cuda/matmul.cpp) on a fake of cuBLASLt.

The fake refuses what cublasLt.h forbids: descriptors that do not fit, pointers less aligned than promised,
algorithms of other products, a workspace that is too small. The cases of every backend function go through it
too, on device "simt".
"""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest

INVALID_VALUE, EXECUTION_FAILED, INTERNAL_ERROR, NOT_SUPPORTED = 7, 13, 14, 15
LAUNCH, HEURISTIC = "cublasLtMatmul", "cublasLtMatmulAlgoGetHeuristic"


def _drawn(*shape: int, dtype: str = "float16", offset: int = 0) -> np.ndarray:
    """Integers from -3 to 3, in an array that begins `offset` elements after a boundary of 64 bytes."""
    values = np.random.default_rng(shape).integers(-3, 4, shape)
    x = _room(*shape, dtype=dtype, offset=offset)
    x[...] = values
    return x


def _room(*shape: int, dtype: str = "float16", offset: int = 0) -> np.ndarray:
    size = np.dtype(dtype).itemsize
    memory = np.empty(int(np.prod(shape)) * size + 128, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64 + offset * size
    return memory[start : start + int(np.prod(shape)) * size].view(dtype).reshape(shape)


def _exact(*factors: np.ndarray) -> np.ndarray:
    a, b = (factor.astype(np.float64) for factor in factors)
    return a @ b


def _implementation(fakes: Any) -> str:
    """The line of the last product that was new."""
    line: str = fakes.matmul_implementations()[-1]
    return line


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("offset", [0, 1, 2, 4])
def test_every_operand_may_lie_anywhere(fakes: Any, offset: int, half: bool) -> None:
    """One operand at a time is less aligned, of the same product: each is a plan of its own."""
    for moved in range(5):
        at = [offset if i == moved else 0 for i in range(4)]
        a, b, bias = _drawn(5, 9, offset=at[0]), _drawn(9, 6, offset=at[1]), _drawn(6, offset=at[2])
        c = _room(5, 6, offset=at[3])
        fakes.matmul(a, b, bias, c, False, False, half)
        np.testing.assert_array_equal(c.astype(np.float64), _exact(a, b) + bias)
        x, dy, db = _drawn(9, 5, offset=at[0]), _drawn(9, 6, offset=at[1]), _room(6, offset=at[2])
        dw = _room(6, 5, offset=at[3])
        fakes.linear_weight_gradient(x, dy, dw, db, half)
        np.testing.assert_array_equal(dw.astype(np.float64), _exact(dy.T, x))
        np.testing.assert_array_equal(db.astype(np.float64), dy.astype(np.float64).sum(0))


def test_factors_are_rounded_to_tf32_where_it_is_allowed_and_nowhere_else(fakes: Any) -> None:
    a, b = np.full((3, 4), 1 + 2**-12, np.float32), np.full((4, 2), 1 + 2**-20, np.float32)
    c = np.empty((3, 2), np.float32)
    fakes.matmul(a, b, None, c, False, False, False, True)
    assert (c == 4).all() and "tf32" in _implementation(fakes)
    fakes.matmul(a, b, None, c, False, False, False, False)
    assert (c == 4 * np.float32(np.float64(a[0, 0]) * b[0, 0])).all()
    fakes.scaled_product(a, b, c, 0.5, False, True)
    assert (c == 2).all()
    with pytest.raises(ValueError, match="tf32 must be false for float16 arrays"):
        fakes.matmul(
            *(x.astype(np.float16) for x in (a, b)), None, c.astype(np.float16), False, False, False, True
        )


def test_halves_are_added_in_halves(fakes: Any) -> None:
    """4096 ones, one by one: 2049 is no binary16 number."""
    ones, c = np.ones((1, 4096), np.float16), np.empty((1, 1), np.float16)
    for half, expected in ((False, 4096), (True, 2048)):
        fakes.matmul(ones, ones, None, c, False, True, half)
        assert c == expected
    fakes.scaled_product(ones, ones.reshape(4096, 1), c, 0.3, True)  # 0.3 is rounded as a factor, not before
    assert c == np.float16(2048 * np.float32(0.3))


@pytest.mark.parametrize("half", [False, True])
def test_sums_are_never_split_in_the_output_type(fakes: Any, half: bool) -> None:
    """The fake's first choices, which add partial sums as they are stored, or by atomics, are not taken."""
    a, c = np.ones((1, 6000), np.float16), np.empty((1, 1), np.float16)
    fakes.matmul(a, a, None, c, False, True, half)
    assert "algorithm 3, K split 1" in _implementation(fakes)


def test_the_quickest_algorithm_is_found_by_timing(fakes: Any) -> None:
    fakes.set_autotune(True)
    a, b, c = _drawn(7, 20), _drawn(20, 3), _room(7, 3)
    fakes.matmul(a, b, None, c, False, False, False)
    np.testing.assert_array_equal(c.astype(np.float64), _exact(a, b))
    line = _implementation(fakes)  # not number 4, which is quicker but refuses to run, nor 6, which is none
    assert line.endswith("algorithm 5, K split 2 and added in the accumulator, workspace 168")
    calls = fakes.calls()[LAUNCH]
    fakes.matmul(a, b, None, c, False, False, False)
    assert fakes.calls()[LAUNCH] == calls + 1


def test_nothing_is_timed_in_a_capture(fakes: Any) -> None:
    from fp16engine import _simt

    fakes.set_autotune(True)
    a, b, c = _drawn(6, 20), _drawn(20, 3), _room(6, 3)
    c.fill(0)
    _simt.begin_recording()
    fakes.matmul(a, b, None, c, False, False, False)
    recording = _simt.end_recording()
    assert fakes.calls()[LAUNCH] == 1 and recording.names == [LAUNCH] and not c.any()
    a *= 2  # a replay reads what is there then
    recording.replay()
    np.testing.assert_array_equal(c.astype(np.float64), _exact(a, b))


@pytest.mark.parametrize("function", [HEURISTIC, LAUNCH])
@pytest.mark.parametrize("status", [INVALID_VALUE, EXECUTION_FAILED, INTERNAL_ERROR, NOT_SUPPORTED])
def test_a_bias_gradient_that_is_refused_is_a_sum_of_its_own(fakes: Any, function: str, status: int) -> None:
    x, dy, dw, db = _drawn(9, 5), _drawn(9, 4), _room(4, 5), _room(4)
    fakes.plan_fault(function, 1, 1, status)
    for _ in range(2):
        fakes.linear_weight_gradient(x, dy, dw, db, False)
        np.testing.assert_array_equal(dw.astype(np.float64), _exact(dy.T, x))
        np.testing.assert_array_equal(db.astype(np.float64), dy.astype(np.float64).sum(0))
    # the fused product once, the plain one twice; what was refused is not asked for again
    assert fakes.calls()[LAUNCH] == (3 if function == LAUNCH else 2) and fakes.calls()[HEURISTIC] == 2


def test_other_refusals_are_errors_with_the_librarys_word(fakes: Any) -> None:
    a, b, c = _drawn(2, 3), _drawn(3, 4), _room(2, 4)
    fakes.plan_fault(LAUNCH, 1, 1, EXECUTION_FAILED)
    with pytest.raises(RuntimeError, match="cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED"):
        fakes.matmul(a, b, None, c, False, False, False)
    fakes.matmul(a, b, None, c, False, False, False)  # the next call is one of its own
    np.testing.assert_array_equal(c.astype(np.float64), _exact(a, b))
    fakes.plan_fault(HEURISTIC, 1, 1, NOT_SUPPORTED)
    with pytest.raises(ValueError, match=r"cuBLASLt has no algorithm for \(3, 2\)"):
        fakes.matmul(a, _drawn(2, 4), None, _room(3, 4), True, False, False)


def test_plans_keep_their_descriptors_and_searches_leave_none(fakes: Any) -> None:
    a, b, bias, c = _drawn(11, 3), _drawn(3, 4), _drawn(4), _room(11, 4)
    fakes.matmul(a, b, None, c, False, False, False)  # makes the device's handle, too
    before = fakes.objects()
    fakes.matmul(a, b, bias, c, False, False, False)
    assert fakes.objects() == before + 4  # a description and three layouts
    for _ in range(3):
        fakes.matmul(a, b, bias, c, False, False, False)
    assert fakes.objects() == before + 4


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("flags", [(False, False), (False, True), (True, False), (True, True)])
def test_batches_are_products_one_by_one(fakes: Any, dtype: str, flags: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((4, 6, 6)).astype(dtype) for _ in range(2))
    c = np.empty((4, 6, 6), dtype)
    fakes.matmul(a, b, None, c, *flags, False)
    for i in range(4):
        one = np.empty((6, 6), dtype)
        fakes.matmul(a[i], b[i], None, one, *flags, False)
        bounds.same_bits(c[i], one)
