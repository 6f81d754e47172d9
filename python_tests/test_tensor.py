"""`Tensor`: construction, conversion, operators, and what wrong input is told."""

# mypy: disable-error-code="arg-type, operator"
# Wrong operands are tested here too.

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fp16engine as fe


@pytest.fixture(params=["float16", "float32"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        ([1.0, 2.0], "float32"),
        ([1, 2], "int64"),
        ([True, False], "int64"),
        (np.zeros(3), "float32"),
        (np.zeros(3, np.float16), "float16"),
        (np.zeros(3, np.uint8), "int64"),
        (np.zeros(3, ">f2"), "float16"),
        ([], "float32"),
    ],
)
def test_dtype_follows_the_data(backend_name: str, data: object, dtype: str) -> None:
    assert fe.tensor(data, device=backend_name).dtype == dtype


def test_tensor_copies_its_data(backend_name: str) -> None:
    data = np.ones(3, np.float32)
    t = fe.tensor(data, device=backend_name)
    data[:] = 7
    assert t.numpy().tolist() == [1, 1, 1]


def test_tensor_makes_data_contiguous(backend_name: str) -> None:
    t = fe.tensor(np.arange(6.0).reshape(2, 3).T, device=backend_name)
    assert t.data.flags.c_contiguous
    assert t.numpy().tolist() == [[0, 3], [1, 4], [2, 5]]


def test_values_beyond_the_range_become_inf(backend_name: str) -> None:
    t = fe.tensor([65504.0, 65519.99, 65520.0], "float16", backend_name)
    assert t.numpy().tolist() == [65504.0, 65504.0, np.inf]


def test_dlpack_both_ways(backend_name: str) -> None:
    class Foreign:
        """Something that speaks DLPack and nothing else."""

        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> object:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()

    t = fe.tensor(Foreign(np.array([1.0, 2.0], np.float32)), device=backend_name)
    assert np.from_dlpack(t).tolist() == [1.0, 2.0]


def test_list_of_tensors_and_numpy_views(backend_name: str) -> None:
    rows = [fe.tensor([1.0, 2.0], device=backend_name), fe.tensor([3.0, 4.0], device=backend_name)]
    stacked = fe.tensor(rows, device=backend_name)
    assert np.asarray(stacked).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert np.asarray(stacked, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: fe.tensor([[1, 2], [3]], device="reference"),
            ValueError,
            "data must .* got ragged ones",
        ),
        (
            lambda: fe.tensor("text", device="reference"),
            TypeError,
            "data must .* got str of <U4",
        ),
        (lambda: fe.tensor([1j], device="reference"), TypeError, "data must .* got list of complex128"),
        (lambda: fe.tensor([None], device="reference"), TypeError, "data must .* got list of object"),
        (
            lambda: fe.tensor([1.5], "int64", "reference"),
            ValueError,
            "data must .* got float64 with fractions",
        ),
        (
            lambda: fe.tensor([1.0], "float8", "reference"),
            ValueError,
            "dtype must .* got 'float8'",
        ),
        (
            lambda: fe.tensor([1.0], np.float16, "reference"),
            TypeError,
            "dtype must be a name in quotes, one of float16, .* got <class 'numpy.float16'>",
        ),
        (lambda: fe.tensor([1.0], device="gpu"), ValueError, "device must .* got 'gpu'"),
        (lambda: fe.tensor([1.0], device="cuda"), fe.BackendUnavailable, "cuda"),
        (
            lambda: fe.tensor([1], device="reference", requires_grad=True),
            TypeError,
            "requires_grad must .* got True",
        ),
        (
            lambda: fe.Tensor([1.0]),
            TypeError,
            "data must .* got list",
        ),
    ],
)
def test_wrong_construction(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_float64_lives_on_the_reference_only(cpu: object) -> None:
    assert fe.tensor([1.0], "float64", "reference").dtype == "float64"
    with pytest.raises(ValueError, match=r"dtype must .* got 'float64'"):
        fe.tensor([1.0], "float64", "cpu")
    with pytest.raises(ValueError, match=r"astype: dtype must .* got 'float64'"):
        fe.tensor([1.0], device="cpu").astype("float64")


@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_operators_round_once_and_broadcast(
    backend_name: str, dtype: str, op: Callable[[Any, Any], Any]
) -> None:
    a = np.array([[1.0, 2.5, -3.25]], dtype)
    b = np.array([[3.0], [-0.1]], dtype)
    with np.errstate(all="ignore"):
        expected = op(a, b)
        with_number = op(a.astype(np.float32), np.float32(0.1)).astype(dtype)
        number_first = op(np.float32(0.1), a.astype(np.float32)).astype(dtype)
    ta, tb = (fe.tensor(v, device=backend_name) for v in (a, b))
    for got, want in ((op(ta, tb), expected), (op(ta, 0.1), with_number), (op(0.1, ta), number_first)):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got.numpy(), want)


def test_numbers_are_not_rounded_to_the_tensor_dtype(backend_name: str) -> None:
    # fl16(0.1) * 8192 would be 819.0; in the register 0.1f * 8192 = 819.2 rounds to 819.0 or 819.5 by ulp 0.5
    x = fe.tensor([2048.0], "float16", backend_name)
    assert (x + 0.9).item() == 2048.0
    assert (x * 1.0004).item() == np.float16(np.float32(2048) * np.float32(1.0004))


def test_negation_power_and_matmul(backend_name: str, dtype: str) -> None:
    x = fe.tensor([[1.0, 2.0], [3.0, 4.0]], dtype, backend_name)
    assert (-x).numpy().tolist() == [[-1, -2], [-3, -4]]
    assert (x**2).numpy().tolist() == [[1, 4], [9, 16]]
    assert (x @ x).numpy().tolist() == [[7, 10], [15, 22]]
    vector = fe.tensor([1.0, 1.0], dtype, backend_name)
    assert (x @ vector).numpy().tolist() == [3, 7]
    assert (vector @ x).numpy().tolist() == [4, 6]
    assert (vector @ vector).shape == ()
    batch = fe.tensor(np.ones((2, 1, 3, 2)), dtype, backend_name) @ fe.tensor(
        np.ones((4, 2, 5)), dtype, backend_name
    )
    assert batch.shape == (2, 4, 3, 5)
    assert (fe.tensor(np.ones((2, 4, 3, 2)), dtype, backend_name) @ x).shape == (2, 4, 3, 2)


def test_shape_operations(backend_name: str, dtype: str) -> None:
    data = np.arange(24.0).reshape(2, 3, 4)
    x = fe.tensor(data, dtype, backend_name)
    assert (x.shape, x.ndim, x.size, len(x)) == ((2, 3, 4), 3, 24, 2)
    np.testing.assert_array_equal(x.reshape(4, -1).numpy(), data.reshape(4, 6))
    np.testing.assert_array_equal(x.reshape((24,)).numpy(), data.ravel())
    np.testing.assert_array_equal(x.transpose().numpy(), data.T)
    np.testing.assert_array_equal(x.transpose(1, 0, 2).numpy(), data.transpose(1, 0, 2))
    np.testing.assert_array_equal(x.T.numpy(), data.T)
    for index in (1, -1, (0, 2), (slice(None), 1), (..., slice(0, 3, 2)), None, [1, 0, 1], (0, [2, 2])):
        np.testing.assert_array_equal(x[index].numpy(), data[index])
    np.testing.assert_array_equal(x[data > 5].numpy(), data[data > 5])
    np.testing.assert_array_equal(x[fe.tensor([1, 0], device=backend_name)].numpy(), data[[1, 0]])
    assert [row.shape for row in x] == [(3, 4), (3, 4)]


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(backend_name: str, dtype: str, axis: object, keepdims: bool) -> None:
    data = np.arange(24.0).reshape(2, 3, 4)
    x = fe.tensor(data, dtype, backend_name)
    for name in ("sum", "mean", "max"):
        got = getattr(x, name)(axis=axis, keepdims=keepdims)
        expected = getattr(data, name)(axis=axis, keepdims=keepdims)
        assert got.shape == expected.shape
        np.testing.assert_array_equal(got.numpy(), expected.astype(dtype))


def test_mean_does_not_overflow_where_the_sum_does(backend_name: str) -> None:
    ones = fe.tensor(np.ones(70000), "float16", backend_name)
    assert ones.sum().item() == np.inf
    assert ones.mean().item() == 1.0


def test_scalars(backend_name: str) -> None:
    x = fe.tensor([[2.5]], device=backend_name)
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert isinstance(fe.tensor(3, device=backend_name).item(), int)


def test_repr(backend_name: str) -> None:
    x = fe.tensor([1.0, 2.0], "float16", backend_name, requires_grad=True)
    assert (
        repr(x) == f"tensor([1., 2.], shape=(2,), dtype=float16, device={backend_name}, requires_grad=True)"
    )
    assert len(repr(fe.tensor(np.zeros((500, 500)), device=backend_name))) < 1000


def test_astype_and_to(backend_name: str) -> None:
    x = fe.tensor([1.0, 2049.0, 1e6], device=backend_name)
    half = x.astype("float16")
    assert half.numpy().tolist() == [1.0, 2048.0, np.inf]
    assert x.astype("float32") is x
    moved = half.to("reference")
    assert (moved.device, moved.dtype) == ("reference", "float16")
    assert fe.tensor([1, 2], device=backend_name).astype("float32").numpy().tolist() == [1.0, 2.0]


def x_of(*shape: int, dtype: str = "float32") -> fe.Tensor:
    return fe.tensor(np.ones(shape), dtype, "reference")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: x_of(2) + x_of(2, dtype="float16"),
            TypeError,
            r"add: b must .* got float16",
        ),
        (lambda: x_of(2, 3) * x_of(2), ValueError, r"mul: shapes must .* got \(2, 3\) and \(2,\)"),
        (lambda: x_of(2) + "1", TypeError, "unsupported operand"),
        (
            lambda: x_of(2) + np.ones(2),
            TypeError,
            r"add: an operand must .* got ndarray",
        ),
        (
            lambda: np.ones(2) - x_of(2),
            TypeError,
            r"sub: an operand must .* got ndarray",
        ),
        (lambda: x_of(2) + True, TypeError, "unsupported operand"),
        (lambda: x_of(2) ** x_of(2), TypeError, "unsupported operand"),
        (lambda: x_of(2) @ 2.0, TypeError, r"matmul: b must .* got float"),
        (lambda: x_of(2, 3) @ x_of(2, 3), ValueError, r"matmul: b must .* got shapes \(2, 3\) and \(2, 3\)"),
        (
            lambda: x_of(2, 1, 1) @ x_of(3, 1, 1),
            ValueError,
            r"matmul: batch axes must .* got \(2,\) and \(3,\)",
        ),
        (lambda: x_of() @ x_of(1), ValueError, r"matmul: a and b must .* got shapes \(\) and \(1,\)"),
        (
            lambda: x_of(2, 3).reshape(4),
            ValueError,
            r"reshape: shape must .* got \(4,\)",
        ),
        (lambda: x_of(2, 3).reshape(-1, -1), ValueError, r"reshape: shape must .* got \(-1, -1\)"),
        (
            lambda: x_of(2, 3).transpose(0, 0),
            ValueError,
            r"transpose: axes must .* got \(0, 0\)",
        ),
        (lambda: x_of(2).sum(axis=1), ValueError, r"sum: axis must .* got 1"),
        (lambda: x_of(2, 2).sum(axis=(0, -2)), ValueError, r"sum: axis must .* got \(0, -2\)"),
        (lambda: x_of(2).sum(axis=1.0), TypeError, "axis|iterable"),
        (lambda: x_of(0).mean(), ValueError, r"mean: x must .* got shape \(0,\)"),
        (lambda: x_of(0).max(), ValueError, r"max: x must .* got shape \(0,\)"),
        (lambda: x_of(2).item(), ValueError, r"item: the tensor must .* got shape \(2,\)"),
        (lambda: bool(x_of(2)), ValueError, r"bool: the tensor must .* got shape \(2,\)"),
        (lambda: len(x_of()), TypeError, r"len: the tensor must .* got shape \(\)"),
        (lambda: x_of(2).astype("int64"), ValueError, r"astype: dtype must .* got 'int64'"),
        (
            lambda: x_of(2).astype(np.dtype("float16")),
            TypeError,
            r"astype: dtype must be a name in quotes, .* got dtype\('float16'\)",
        ),
        (lambda: x_of(2).astype("half"), ValueError, r"astype: dtype must .* got 'half'"),
        (
            lambda: fe.tensor([1], device="reference") + 1,
            TypeError,
            r"add: the tensor must .* got int64",
        ),
        (lambda: x_of(2)[2], IndexError, "out of bounds"),
    ],
)
def test_wrong_use(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_mixed_devices(cpu: object) -> None:
    with pytest.raises(ValueError, match=r"add: b must .* got 'cpu'"):
        x_of(2) + x_of(2).to("cpu")


def test_empty_tensors(backend_name: str) -> None:
    empty = fe.tensor(np.zeros((0, 3)), device=backend_name)
    assert (empty + 1.0).shape == (0, 3)
    assert empty.sum().item() == 0
    assert empty.sum(axis=0).numpy().tolist() == [0, 0, 0]
