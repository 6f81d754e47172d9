"""Elementwise operations: arithmetic with broadcasting, powers, activations, casts."""

from __future__ import annotations

from typing import Any

from .. import backend as backends
from ..autograd import Array, Function, GradAndBiasGrad
from ..floats import numpy_dtype
from ..tensor import Tensor, check_dtype, dtype_named
from ..validate import must_be
from . import _check
from ._reduce import unbroadcast


class Binary(Function):
    def forward(self, a: Array, b: Array, op: str) -> Array:
        self.op, self.shapes = op, (a.shape, b.shape)
        y = self.backend.binary(op, a, b)
        if op == "mul":
            self.a, self.b = a if self.needs[1] else None, b if self.needs[0] else None
        elif op == "div":
            self.b, self.y = b, y if self.needs[1] else None
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        f = self.backend
        da = db = None
        if self.op in ("add", "sub"):
            da, db = dy, dy
            if self.op == "sub" and self.needs[1]:
                db = f.unary("neg", dy)
        elif self.op == "mul":
            da = f.binary("mul", dy, self.b) if self.needs[0] else None
            db = f.binary("mul", dy, self.a) if self.needs[1] else None
        else:
            # d(a/b)/db = -(a/b)/b; dividing first keeps the product in range where the gradient is.
            da = f.binary("div", dy, self.b)
            db = f.unary("neg", f.binary("mul", da, self.y)) if self.needs[1] else None
        return (
            unbroadcast(f, da, self.shapes[0], self.acc) if self.needs[0] else None,
            unbroadcast(f, db, self.shapes[1], self.acc) if self.needs[1] else None,
        )


class Scalar(Function):
    """A tensor and a Python number, which stays a register value; `reverse` puts the number first."""

    def forward(self, x: Array, op: str, number: float, reverse: bool) -> Array:
        self.op, self.number, self.reverse = op, number, reverse
        y = self.backend.binary(op, number, x) if reverse else self.backend.binary(op, x, number)
        if op == "div" and reverse:
            self.x, self.y = x, y
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        f = self.backend
        if self.op == "mul":
            return (f.binary("mul", dy, self.number),)
        if self.op == "div" and not self.reverse:
            return (f.binary("div", dy, self.number),)
        if self.op == "div":
            return (f.unary("neg", f.binary("mul", f.binary("div", dy, self.x), self.y)),)
        return (f.unary("neg", dy) if self.op == "sub" and self.reverse else dy,)


class Power(Function):
    def forward(self, x: Array, exponent: float) -> Array:
        self.x, self.exponent = x, exponent
        return self.backend.power(x, exponent)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        f, n = self.backend, self.exponent
        if n == 0:
            return (f.zeros(dy.shape, str(dy.dtype)),)
        return (f.binary("mul", f.binary("mul", dy, f.power(self.x, n - 1)), n),)


class Unary(Function):
    # Which array the derivative is written in; keeping the output lets the input be freed.
    OF_INPUT = ("gelu", "log")
    OF_OUTPUT = ("relu", "relu6", "tanh", "exp", "sqrt")

    def forward(self, x: Array, op: str) -> Array:
        y = self.backend.unary(op, x)
        self.op = op
        self.x = x if op in self.OF_INPUT else None
        self.y = y if op in self.OF_OUTPUT else None
        self.fuses_grad_sum = op == "relu" and self.backend.capabilities.relu_grad_sums
        return y

    def backward(self, dy: Array) -> tuple[Array | GradAndBiasGrad | None, ...]:
        if self.pending_grad is not None:
            return (self.backend.relu_add_backward(self.y, dy, self.pending_grad),)
        sums = self.op == "relu" and self.backend.capabilities.relu_bias_sums
        node = self.bias_grad_node() if sums else None
        if node is not None and node.bias_grad_apart:
            return (GradAndBiasGrad(*self.backend.relu_bias_backward(self.y, dy, self.acc)),)
        return (self.backend.unary_backward(self.op, self.x, self.y, dy),)


class Cast(Function):
    accumulates = False

    def forward(self, x: Array, dtype: str) -> Array:
        self.dtype = str(x.dtype)
        return self.backend.cast(x, dtype)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.cast(dy, self.dtype),)


def arithmetic(op: str, a: Any, b: Any) -> Any:
    """Return a `op` b, the operators + - * / of tensors, with broadcasting.

    Args:
        op: "add", "sub", "mul" or "div".
        a: any shape, float16, bfloat16 or float32, or a Python number where b is a Tensor.
        b: a shape that broadcasts with a's, dtype of a, or a Python number.

    Returns:
        The broadcast shape, dtype of the tensors; NotImplemented for an operand that is neither a Tensor nor
        a number, so that Python tries its operator.

    Rounding:
        Rounded once. A number takes part as FP32, unrounded. Gradients are rounded once per operation: dy * b
        and dy * a of a product, dy / b and -((dy / b) * y) of a quotient. A broadcast operand's gradient is
        summed back as the active `Precision` says.

    Raises:
        TypeError: a tensor is not floating point, the dtypes differ, or an operand is an array but no Tensor.
        ValueError: the shapes do not broadcast, or the devices differ.
        UnsupportedPrecision: a tensor is float32 under a precision with binary16 accumulators.

    Source:
        NumPy (broadcasting).

    >>> import fp16engine as fe
    >>> x = fe.tensor([1.0, 2.0], "float16", "reference")
    >>> (1 - x / 2).numpy().tolist()
    [0.5, 0.0]
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        _check.alike(op, a=a, b=b)
        _check.broadcastable(op, a, b)
        return Binary.apply(a, b, op=op)
    x, number, reverse = (a, b, False) if isinstance(a, Tensor) else (b, a, True)
    if not _check.is_number(number):
        if hasattr(number, "__array__"):
            raise TypeError(
                must_be(f"{op}: an operand", "a Tensor (fe.tensor makes one) or a number", type(number))
            )
        return NotImplemented
    _check.floating(op, "the tensor", x)
    return Scalar.apply(x, op=op, number=float(number), reverse=reverse)


def power(x: Tensor, exponent: float) -> Any:
    """Return x raised to a number.

        y = x ** exponent

    Args:
        x: any shape, float16, bfloat16 or float32.
        exponent: a Python number.

    Returns:
        The shape and dtype of x; NotImplemented where the exponent is no number.

    Rounding:
        Rounded once. The gradient (dy * x ** (n - 1)) * n is rounded after each of its three operations.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> (fe.tensor([3.0], "float16", "reference") ** 2).item()
    9.0
    """
    if not _check.is_number(exponent):
        return NotImplemented
    _check.floating("power", "x", x)
    return Power.apply(x, exponent=float(exponent))


def _unary(op: str, x: Tensor) -> Tensor:
    _check.floating(op, "x", x)
    return Unary.apply(x, op=op)


def neg(x: Tensor) -> Tensor:
    """Return -x.

    Args:
        x: any shape, float16, bfloat16 or float32.

    Returns:
        The shape and dtype of x.

    Rounding:
        None, in either direction.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.neg(fe.tensor([1.0, -2.0], device="reference")).numpy().tolist()
    [-1.0, 2.0]
    """
    return _unary("neg", x)


def exp(x: Tensor) -> Tensor:
    """Return e ** x.

    Args:
        x: any shape, float16, bfloat16 or float32.

    Returns:
        The shape and dtype of x. In binary16, inf from x = 11.09 on and 0 below -17.33.

    Rounding:
        Rounded once; so is the gradient dy * y, from the stored y.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.exp(fe.tensor([0.0, 11.08, 11.1, -17.4], "float16", "reference")).numpy().tolist()
    [1.0, 64736.0, inf, 0.0]
    """
    return _unary("exp", x)


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm of x.

    Args:
        x: any shape, float16, bfloat16 or float32.

    Returns:
        The shape and dtype of x; -inf for 0, NaN below.

    Rounding:
        Rounded once; so is the gradient dy / x.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.log(fe.tensor([1.0, 0.0], device="reference")).numpy().tolist()
    [0.0, -inf]
    """
    return _unary("log", x)


def sqrt(x: Tensor) -> Tensor:
    """Return the square root of x.

    Args:
        x: any shape, float16, bfloat16 or float32.

    Returns:
        The shape and dtype of x; NaN below 0.

    Rounding:
        Rounded once; so is the gradient (dy / 2) / y, from the stored y.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.sqrt(fe.tensor([9.0], device="reference")).item()
    3.0
    """
    return _unary("sqrt", x)


def relu(x: Tensor) -> Tensor:
    """Return x where it is positive, else 0.

        y = max(x, 0)

    Args:
        x: any shape, float16, bfloat16 or float32.

    Returns:
        The shape and dtype of x; +0 where x <= 0, NaN where x is NaN.

    Rounding:
        None, in either direction. The gradient is dy where y > 0, else 0.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.relu(fe.tensor([-1.0, 2.0], device="reference")).numpy().tolist()
    [0.0, 2.0]
    """
    return _unary("relu", x)


def relu6(x: Tensor) -> Tensor:
    """Return x within the bounds 0 and 6.

        y = min(max(x, 0), 6)

    Args:
        x: any shape, float16, bfloat16 or float32.

    Returns:
        The shape and dtype of x.

    Rounding:
        None, in either direction. The gradient is dy where 0 < y < 6, else 0.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        Sandler et al., 2018, arXiv 1801.04381 (MobileNetV2).

    >>> import fp16engine as fe
    >>> fe.functional.relu6(fe.tensor([-1.0, 2.0, 7.0], device="reference")).numpy().tolist()
    [0.0, 2.0, 6.0]
    """
    return _unary("relu6", x)


def gelu(x: Tensor) -> Tensor:
    """Return the Gaussian error linear unit, in its exact form.

        y = x * Phi(x), Phi the distribution function of the standard normal distribution

    Args:
        x: any shape, float16, bfloat16 or float32.

    Returns:
        The shape and dtype of x.

    Rounding:
        Rounded once, and accurate in the tail: Phi(x) = erfc(-x / sqrt(2)) / 2. The gradient dy * (Phi(x) + x
        * phi(x)) is rounded once.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        Hendrycks and Gimpel, 2016, arXiv 1606.08415.

    >>> import fp16engine as fe
    >>> round(fe.functional.gelu(fe.tensor([1.0], device="reference")).item(), 4)
    0.8413
    """
    return _unary("gelu", x)


def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent of x.

        y = (e ** x - e ** -x) / (e ** x + e ** -x)

    Args:
        x: any shape, float16, bfloat16 or float32.

    Returns:
        The shape and dtype of x.

    Rounding:
        Rounded once; so is the gradient dy * (1 - y * y), from the stored y.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.tanh(fe.tensor([0.0, 10.0], "float16", "reference")).numpy().tolist()
    [0.0, 1.0]
    """
    return _unary("tanh", x)


def astype(x: Tensor, dtype: str) -> Tensor:
    """Return x in another dtype.

    Args:
        x: any shape, float16, float32, int64, or bool, of which True becomes 1.
        dtype: "float16", "float32", "bfloat16" on devices "cpu" and "reference", or "float64" on "reference".

    Returns:
        The shape of x, `dtype`; x itself where it has that dtype.

    Rounding:
        To nearest even; beyond the largest finite number, inf. The gradient is cast back the same way.

    Raises:
        ValueError: `dtype` is unknown or not one of the device's, or int64 for a floating-point tensor.
        BackendUnavailable: bfloat16 needs the package ml_dtypes, which is not there.

    >>> import fp16engine as fe
    >>> fe.tensor([2049.0, 1e5], device="reference").astype("float16").numpy().tolist()
    [2048.0, inf]
    """
    dtype_named("astype: dtype", dtype)
    if dtype == x.dtype:
        return x
    if x.dtype == "bool":
        backend = backends.get(x.device)
        return Tensor(backend.from_numpy(backend.to_numpy(x.data).astype(dtype)), x.device)
    if dtype == "int64":
        raise ValueError(f"astype: dtype must be a floating-point one for a {x.dtype} tensor, got 'int64'")
    check_dtype("astype: dtype", dtype, x.device)
    numpy_dtype(dtype)
    return Cast.apply(x, dtype=dtype)
