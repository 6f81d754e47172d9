"""`Tensor`: an array on a device, the gradient it gathers, and the node of the tape it came from."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from . import backend as backends
from .floats import FLOATS as FLOAT_DTYPES
from .floats import SIXTEEN_BIT, dtype_name, is_float, numpy_dtype, rounded
from .foreign_arrays import gpu_of
from .validate import choice, flag, listed, must_be, numpys_names, one_of, shown

Array = Any
DTYPES = (*FLOAT_DTYPES, "int64")
FLOATS = ("float16", "float32")  # what a GPU casts to

# The package `ops`, which a tensor's methods call. It imports this file, not the other way round.
_ops: Any = None


def install(operations: Any) -> None:
    """Let the methods and operators of every tensor call the functions of `operations`."""
    global _ops
    _ops = operations


class Tensor:
    """An array with a device name and, where asked, a gradient.

    `Tensor(data, device)` wraps an array that already belongs to the device's backend; `fe.tensor` makes one
    from lists, NumPy arrays and anything with `__dlpack__`. A tensor that `requires_grad` and was not
    computed is a leaf: only leaves keep `.grad`.

    Args:
        data: a backend's array of any shape, float16, float32, int64, bool as comparisons give it, bfloat16
            on the devices "cpu" and "reference", or float64 on "reference".
        device: the device that `data` belong to.
        requires_grad: whether `backward()` gathers a gradient here.

    Attributes:
        data: the backend's array, C-contiguous.
        shape: sizes, a tuple.
        ndim: number of axes.
        size: number of elements.
        dtype: a string, such as "float16".
        device: "cpu", "cuda:0", or "reference" (slow, defines the semantics).
        grad: the gradient of a leaf after `backward()`, a `Tensor` of the same shape and dtype, or None.
        requires_grad: whether `backward()` reaches this tensor.

    Raises:
        TypeError: `data` is no array, or an integer tensor was asked for a gradient.

    >>> import fp16engine as fe
    >>> x = fe.tensor([1.0, 2.0], dtype="float16", device="reference", requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad.numpy().tolist()
    [2.0, 4.0]
    """

    __slots__ = ("__weakref__", "data", "device", "grad", "node", "on_grad", "output", "requires_grad")

    # NumPy must not broadcast itself over a Tensor operand; its operators then defer to ours.
    __array_ufunc__ = None

    data: Array
    device: str
    grad: Tensor | None
    on_grad: Callable[[Tensor], None] | None  # is told of each gradient that `.grad` takes up
    node: Any  # the `autograd.Function` that computed it, or None
    output: int  # as which of its results
    requires_grad: bool

    def __init__(self, data: Array, device: str = "cpu", requires_grad: bool = False) -> None:
        if not hasattr(data, "dtype") or isinstance(data, Tensor):
            raise TypeError(must_be("data", "an array (fe.tensor converts)", type(data)))
        self.data = data
        self.device = device
        self.grad = None
        self.on_grad = None
        self.node = None
        self.output = 0
        self.requires_grad = requires_grad
        if requires_grad and self.dtype == "int64":
            raise TypeError("requires_grad must be False for an int64 tensor, got True")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return len(self.data.shape)

    @property
    def size(self) -> int:
        return math.prod(self.data.shape)

    @property
    def dtype(self) -> str:
        return dtype_name(self.data.dtype)

    @property
    def T(self) -> Tensor:
        """The tensor with its axes reversed."""
        return self.transpose()

    # Leaving the engine

    def numpy(self) -> np.ndarray:
        """Return the values as a NumPy array.

        Returns:
            The shape and dtype of the tensor, not rounded. On a CPU device it may share memory with the
            tensor.

        >>> import fp16engine as fe
        >>> fe.tensor([1.0, 2.0], "float16", "reference").numpy()
        array([1., 2.], dtype=float16)
        """
        return backends.get(self.device).to_numpy(self.data)

    def item(self) -> float | int:
        """Return the value of a tensor with one element as a Python number.

        Raises:
            ValueError: the tensor has more or fewer elements.

        >>> import fp16engine as fe
        >>> fe.tensor([[0.1]], "float16", "reference").item()
        0.0999755859375
        """
        if self.size != 1:
            raise ValueError(f"item: the tensor must have one element, got shape {self.shape}")
        return self.numpy().item()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.asarray(self.numpy(), dtype=dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options: Any) -> Any:
        if self.dtype == "bfloat16":
            raise BufferError(
                "__dlpack__: the tensor must be float16, float32 or int64, got bfloat16, which NumPy's "
                "arrays do not export; use .astype('float32'), which holds every bfloat16 exactly"
            )
        with _exporting(self.device):
            return self.data.__dlpack__(**options)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # an AttributeError where the data have none: then the tensor has none
        with _exporting(self.device):
            interface: dict[str, Any] = self.data.__cuda_array_interface__
            return interface

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"bool: the tensor must have one element, got shape {self.shape}")
        return bool(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: the tensor must have an axis, got shape ()")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="tensor(", threshold=100, edgeitems=3)
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({values}, shape={self.shape}, dtype={self.dtype}, device={self.device}{grad})"

    # Differentiation

    def detach(self) -> Tensor:
        """Return a tensor on the same memory through which no gradient flows.

        Returns:
            The shape and dtype of the tensor.

        >>> import fp16engine as fe
        >>> x = fe.tensor([1.0], device="reference", requires_grad=True)
        >>> (x * 2).detach().requires_grad
        False
        """
        return Tensor(self.data, self.device)

    def backward(self, grad: Tensor | None = None) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf it was computed from.

            leaf.grad += grad * d(self) / d(leaf)

        Args:
            grad: gradient of the loss by this tensor: shape and dtype of this tensor, on its device. None
                means 1 and is for tensors of one element. A loss scale goes here.

        The tape is consumed: what the operations had saved is freed during the walk. Gradients that meet are
        added and rounded once to their dtype; what else is rounded, each operation says.

        Raises:
            ValueError: `grad` is missing for a tensor of several elements, or has another shape or device.
            TypeError: `grad` is no Tensor, or has another dtype.
            RuntimeError: nothing here requires a gradient, or the tape was already consumed.

        >>> import fp16engine as fe
        >>> x = fe.tensor([3.0], "float16", "reference", requires_grad=True)
        >>> (x * x).backward(fe.tensor([1024.0], "float16", "reference"))
        >>> x.grad.item()
        6144.0
        """
        if grad is None:
            if self.size != 1:
                raise ValueError(
                    f"grad must be given for a tensor of shape {self.shape}, got None; "
                    "pass grad, or reduce with .sum() or .mean()"
                )
            seed = backends.get(self.device).full(self.shape, 1.0, self.dtype)
        else:
            if not isinstance(grad, Tensor):
                raise TypeError(must_be("grad", "a Tensor", type(grad)))
            if grad.dtype != self.dtype:
                raise TypeError(f"grad must be {self.dtype} as the tensor is, got {grad.dtype}")
            if grad.shape != self.shape or grad.device != self.device:
                raise ValueError(
                    f"grad must be of shape {self.shape} on {self.device!r}, got {grad.shape} on "
                    f"{grad.device!r}"
                )
            seed = grad.data
        if self.node is not None:
            self.node.walk(self.output, seed)
        elif self.requires_grad:
            self.accumulate_grad(seed)
        else:
            raise RuntimeError(
                "backward: this tensor depends on no tensor with requires_grad=True, "
                "or was computed under no_grad()"
            )

    def accumulate_grad(self, grad: Array) -> None:
        """Add a gradient to `.grad`, or make it that where there is none.

        Args:
            grad: a backend's array, shape and dtype of this tensor; the sum is rounded once.

        Raises:
            ValueError: the shapes do not broadcast.

        >>> import fp16engine as fe
        >>> x = fe.tensor([1.0], "float16", "reference", requires_grad=True)
        >>> for _ in range(2):
        ...     x.accumulate_grad(fe.tensor([1.5], "float16", "reference").data)
        >>> x.grad.item()
        3.0
        """
        if self.grad is not None:
            grad = backends.get(self.device).binary("add", self.grad.data, grad)
        self.grad = Tensor(grad, self.device)
        if self.on_grad is not None:
            self.on_grad(self)

    # Conversion

    def astype(self, dtype: str) -> Tensor:
        """Return the tensor in another dtype, see `ops.astype`.

        Args:
            dtype: "float16", "float32", "bfloat16" on devices "cpu" and "reference", or "float64" on
                "reference".

        Returns:
            The same shape, `dtype`, rounded to nearest even; beyond its range, inf. The gradient is cast
            back. Integer tensors become floating point without a gradient.

        Raises:
            ValueError: `dtype` is unknown or not one of the device's, or int64 for a floating-point tensor.
            BackendUnavailable: bfloat16 needs the package ml_dtypes, which is not there.

        >>> import fp16engine as fe
        >>> fe.tensor([2049.0], device="reference").astype("float16").item()
        2048.0
        """
        return _ops.astype(self, dtype)

    def to(self, device: str) -> Tensor:
        """Return the tensor on another device, bit for bit; the gradient travels back.

        Args:
            device: "cpu", "cuda", "cuda:1" or "reference".

        Returns:
            The same shape and dtype of data; the tensor itself where it is there already.

        Raises:
            BackendUnavailable: the device is not there.
            ValueError: `device` names no device.
            TypeError: `device` is no string.

        >>> import fp16engine as fe
        >>> fe.tensor([1.0], device="reference").to("reference").device
        'reference'
        """
        return _ops.to_device(self, device)

    # Shape

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """Return the same elements in another shape, see `functional.reshape`.

        Args:
            *shape: sizes, as one tuple or one by one; one of them may be -1, for what the others leave.

        Returns:
            That shape, dtype of the tensor; on the same memory.

        Raises:
            ValueError: the number of elements differs.

        >>> import fp16engine as fe
        >>> fe.tensor([1.0, 2.0], device="reference").reshape(2, -1).shape
        (2, 1)
        """
        return _ops.reshape(self, _flat(shape))

    def view(self, *shape: int | Sequence[int]) -> Tensor:
        """Return `reshape(*shape)`, by PyTorch's name.

        Args:
            *shape: sizes, as one tuple or one by one; one of them may be -1, for what the others leave.

        Returns:
            That shape, dtype of the tensor; on the same memory.

        Raises:
            ValueError: the number of elements differs.

        >>> import fp16engine as fe
        >>> fe.tensor([1.0, 2.0], device="reference").view(2, -1).shape
        (2, 1)
        """
        return self.reshape(*shape)

    def permute(self, *axes: int | Sequence[int]) -> Tensor:
        """Return `transpose(*axes)`, by PyTorch's name.

        Args:
            *axes: a permutation of the axes, as one tuple or one by one.

        Returns:
            The permuted shape, dtype of the tensor.

        Raises:
            ValueError: `axes` is no permutation of the axes.

        >>> import fp16engine as fe
        >>> fe.tensor([[1.0, 2.0, 3.0]], device="reference").permute(1, 0).shape
        (3, 1)
        """
        return _ops.transpose(self, _flat(axes))

    def transpose(self, *axes: int | Sequence[int]) -> Tensor:
        """Return the tensor with its axes permuted, as a copy, see `functional.transpose`.

        Args:
            *axes: a permutation of the axes, as one tuple or one by one; none reverses them.

        Returns:
            The permuted shape, dtype of the tensor.

        Raises:
            ValueError: `axes` is no permutation of the axes.

        >>> import fp16engine as fe
        >>> fe.tensor([[1.0, 2.0, 3.0]], device="reference").transpose().shape
        (3, 1)
        """
        return _ops.transpose(self, _flat(axes) or tuple(range(self.ndim))[::-1])

    def __getitem__(self, index: Any) -> Tensor:
        return _ops.getitem(self, index)

    # Reductions

    @numpys_names
    def sum(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        """Return the sum over axes, see `functional.sum`.

        Args:
            axis: integer, several of them, or None for all axes.
            keepdims: keep the reduced axes with size 1.

        Returns:
            The shape without the axes reduced, dtype of the tensor. The sum accumulates as the active
            `Precision` says and is rounded once.

        Raises:
            TypeError: the tensor holds integers, or an axis is no integer.
            ValueError: an axis does not exist or comes twice.

        >>> import fp16engine as fe
        >>> fe.tensor([[1.0, 2.0], [3.0, 4.0]], device="reference").sum(axis=0).numpy().tolist()
        [4.0, 6.0]
        """
        return _ops.sum(self, axis, keepdims)

    @numpys_names
    def mean(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        """Return the mean over axes, see `functional.mean`.

        Args:
            axis: integer, several of them, or None for all axes.
            keepdims: keep the reduced axes with size 1.

        Returns:
            The shape without the axes reduced, dtype of the tensor. Sum and division are rounded once
            together, so that a binary16 mean cannot overflow in an FP32 accumulator.

        Raises:
            TypeError: the tensor holds integers, or an axis is no integer.
            ValueError: an axis does not exist, comes twice, or has no elements.

        >>> import fp16engine as fe
        >>> fe.tensor([60000.0, 60000.0], "float16", "reference").mean().item()
        60000.0
        """
        return _ops.mean(self, axis, keepdims)

    @numpys_names
    def max(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        """Return the largest value over axes, see `functional.max`.

        Args:
            axis: integer, several of them, or None for all axes.
            keepdims: keep the reduced axes with size 1.

        Returns:
            The shape without the axes reduced, dtype of the tensor, not rounded. n equal maxima get 1 / n of
            the gradient each.

        Raises:
            TypeError: the tensor holds integers, or an axis is no integer.
            ValueError: an axis does not exist, comes twice, or has no elements.

        >>> import fp16engine as fe
        >>> fe.tensor([[1.0, 5.0], [3.0, 4.0]], device="reference").max(axis=1).numpy().tolist()
        [5.0, 4.0]
        """
        return _ops.max(self, axis, keepdims)

    @numpys_names
    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Return the index of the largest value along an axis, see `functional.argmax`.

        Args:
            axis: an axis, or None for the index among all elements.
            keepdims: keep the axis with size 1.

        Returns:
            The shape without the axis, dtype int64: the first of equal values.

        Raises:
            TypeError: the axis is no integer.
            ValueError: the axis does not exist or has no elements.

        >>> import fp16engine as fe
        >>> fe.tensor([[1.0, 5.0], [3.0, 2.0]], device="reference").argmax(axis=1).numpy().tolist()
        [1, 0]
        """
        return _ops.argmax(self, axis, keepdims)

    # Comparisons, element by element; a tensor's hash is its identity

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return _ops.compare("eq", self, other)

    def __ne__(self, other: object) -> Any:
        return _ops.compare("ne", self, other)

    def __lt__(self, other: Tensor | float) -> Tensor:
        return _ops.compare("lt", self, other)

    def __le__(self, other: Tensor | float) -> Tensor:
        return _ops.compare("le", self, other)

    def __gt__(self, other: Tensor | float) -> Tensor:
        return _ops.compare("gt", self, other)

    def __ge__(self, other: Tensor | float) -> Tensor:
        return _ops.compare("ge", self, other)

    def __and__(self, other: Tensor) -> Tensor:
        return _ops.logical("and", self, other)

    def __or__(self, other: Tensor) -> Tensor:
        return _ops.logical("or", self, other)

    def __invert__(self) -> Tensor:
        return _ops.invert(self)

    def all(self) -> bool:
        """Tell whether every element is true, or not 0.

        >>> import fp16engine as fe
        >>> x = fe.tensor([1.0, 2.0], device="reference")
        >>> (x == x).all(), (x > 1).all()
        (True, False)
        """
        return bool(self.numpy().all())

    def any(self) -> bool:
        """Tell whether an element is true, or not 0.

        >>> import fp16engine as fe
        >>> (fe.tensor([1.0, 2.0], device="reference") > 1).any()
        True
        """
        return bool(self.numpy().any())

    # Arithmetic: each rounds once to the tensors' dtype; a Python number takes part as FP32, unrounded

    def __add__(self, other: Tensor | float) -> Tensor:
        return _ops.arithmetic("add", self, other)

    def __radd__(self, other: float) -> Tensor:
        return _ops.arithmetic("add", other, self)

    def __sub__(self, other: Tensor | float) -> Tensor:
        return _ops.arithmetic("sub", self, other)

    def __rsub__(self, other: float) -> Tensor:
        return _ops.arithmetic("sub", other, self)

    def __mul__(self, other: Tensor | float) -> Tensor:
        return _ops.arithmetic("mul", self, other)

    def __rmul__(self, other: float) -> Tensor:
        return _ops.arithmetic("mul", other, self)

    def __truediv__(self, other: Tensor | float) -> Tensor:
        return _ops.arithmetic("div", self, other)

    def __rtruediv__(self, other: float) -> Tensor:
        return _ops.arithmetic("div", other, self)

    def __neg__(self) -> Tensor:
        return _ops.neg(self)

    def __pow__(self, exponent: float) -> Tensor:
        return _ops.power(self, exponent)

    def __matmul__(self, other: Tensor) -> Tensor:
        return _ops.matmul(self, other)


def tensor(
    data: Any, dtype: str | None = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Return a new `Tensor` with a copy of `data`.

    Args:
        data: a number, (nested) lists, a NumPy array, a `Tensor`, or anything with `__dlpack__`: in host
            memory, or on a GPU (there `__cuda_array_interface__` is enough).
        dtype: "float16", "float32", "int64", "bfloat16" (devices "cpu" and "reference") or "float64" (device
            "reference"). None keeps float16, bfloat16 and float32, turns every other floating-point type into
            float32 (NumPy's float64 included) and integers into int64.
        device: None means where the data are, else "cpu".
        requires_grad: whether `backward()` gathers a gradient here.

    Returns:
        The shape of the data, `dtype`, rounded to nearest even; what exceeds the dtype's range becomes inf.

    Raises:
        TypeError: the data are not numbers, the dtype is no name, or an integer tensor is asked for a
            gradient.
        ValueError: the dtype is unknown or does not hold the data, nested lists are ragged, or there is no
            such device.
        BackendUnavailable: the device is not there, or bfloat16 needs the package ml_dtypes.

    >>> import fp16engine as fe
    >>> fe.tensor([[1, 2], [3, 4]], dtype="float16", device="reference").shape
    (2, 2)
    """
    source = None if isinstance(data, Tensor) else gpu_of(data)
    if device is None:
        device = data.device if isinstance(data, Tensor) else source or "cpu"
    backend = backends.get(device)
    if source is not None:
        gpu: Any = backends.get(source)
        array = gpu.import_array(data)
        target = dtype or (str(array.dtype) if array is not None else None)
        if array is not None and backend is gpu and (target == str(array.dtype) or target in FLOATS):
            return Tensor(gpu.cast(array, target) if target in FLOATS else array, device, requires_grad)
        host = gpu.read_array(data)
    else:
        host = _host_array(data)
    if dtype is None:
        dtype = "int64" if host.dtype.kind in "biu" else host.dtype.name
        if dtype not in ("int64", *SIXTEEN_BIT):
            dtype = "float32"
    else:
        dtype_named("dtype", dtype)
    check_dtype("dtype", dtype, device)
    if dtype == "int64" and is_float(host.dtype) and not np.array_equal(host, np.trunc(host)):
        raise ValueError(f"data must be whole numbers for dtype 'int64', got {host.dtype} with fractions")
    if dtype == "int64" and not _fits_int64(host):
        raise ValueError(
            f"data must be integers in [-2^63, 2^63) for dtype 'int64', got values up to {np.abs(host).max()}"
        )
    with np.errstate(over="ignore"):
        host = np.asarray(
            host if dtype == "int64" else rounded(host, dtype), dtype=numpy_dtype(dtype), order="C"
        )
    return Tensor(backend.from_numpy(host), device, flag("requires_grad", requires_grad))


def dtype_named(name: str, dtype: Any) -> str:
    """Return the name of a dtype of tensors.

    Raises:
        TypeError: it is no name, but an object of NumPy or PyTorch, say.
        ValueError: there is no such dtype.

    >>> dtype_named("dtype", "float16")
    'float16'
    """
    if not isinstance(dtype, str):
        got = repr(dtype) if isinstance(dtype, type) else shown(dtype)
        raise TypeError(f"{name} must be a name in quotes, {one_of(DTYPES)}, got {got}")
    return choice(name, dtype, DTYPES)


def check_dtype(name: str, dtype: str, device: str) -> None:
    """Require a dtype that arrays of a device may have.

    Raises:
        ValueError: they may not.

    >>> check_dtype("dtype", "float16", "reference")
    """
    homes = {"float64": ("reference",), "bfloat16": ("cpu", "reference")}
    if device not in homes.get(dtype, (device,)):
        there = ["float16", "float32", *(other for other, devices in homes.items() if device in devices)]
        raise ValueError(
            f"{name} must be {', '.join(there[:-1])} or {there[-1]} on device {device!r}, got {dtype!r} (for "
            f"{' and '.join(map(repr, homes[dtype]))})"
        )


def _exporting(device: str) -> AbstractContextManager[Any]:
    """Arrays that leave the engine are in the order of their device's stream, where there is one."""
    backend: Any = backends.get(device)
    context: AbstractContextManager[Any] = (
        backend.exporting() if backend.capabilities.stream else nullcontext()
    )
    return context


def _fits_int64(host: np.ndarray) -> bool:
    """Tell whether whole numbers keep their values as int64; compared in the data's own dtype."""
    if host.dtype.kind == "u":
        return not np.any(host > np.uint64(2**63 - 1))
    if is_float(host.dtype):
        with np.errstate(over="ignore"):
            return not np.any((host >= 2.0**63) | (host < -(2.0**63)))
    return True


def _host_array(data: Any) -> np.ndarray:
    """Return `data` as a NumPy array of numbers, or say in one sentence why not."""
    if isinstance(data, Tensor):
        array = data.numpy()
    elif isinstance(data, np.ndarray):
        array = data
    elif hasattr(data, "__dlpack__"):
        try:
            array = np.from_dlpack(data)
        except (BufferError, RuntimeError, TypeError) as error:
            raise TypeError(
                f"data must be readable through DLPack, got {type(data).__name__}: {error}"
            ) from error
    else:
        if isinstance(data, Sequence) and any(isinstance(item, Tensor) for item in data):
            data = [item.numpy() if isinstance(item, Tensor) else item for item in data]
        try:
            array = np.asarray(data)
        except ValueError:
            raise ValueError(
                "data must be nested lists whose rows have equal length, got ragged ones"
            ) from None
    if array.dtype.kind not in "biuf" and not is_float(array.dtype):
        raise TypeError(f"data must be real numbers, got {type(data).__name__} of {array.dtype}")
    return array


def _flat(arguments: Sequence[Any]) -> tuple[int, ...]:
    """Let `f(2, 3)` and `f((2, 3))` mean the same."""
    if len(arguments) == 1 and not isinstance(arguments[0], numbers.Integral):
        return tuple(listed("shape or axes", arguments[0], "integers, or one sequence of them"))
    return tuple(arguments)
