"""Elementwise operations: arithmetic with broadcasting, powers, activations, casts."""

from __future__ import annotations

from typing import Any

from ..autograd import Array, Function
from ..tensor import DTYPES, Tensor
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
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.unary_backward(self.op, self.x, self.y, dy),)


class Cast(Function):
    accumulates = False

    def forward(self, x: Array, dtype: str) -> Array:
        self.dtype = str(x.dtype)
        return self.backend.cast(x, dtype)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.cast(dy, self.dtype),)


def arithmetic(op: str, a: Any, b: Any) -> Any:
    """Return a `op` b for Tensor operators, NotImplemented where Python should try the other side."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        _check.alike(op, a=a, b=b)
        _broadcastable(op, a, b)
        return Binary.apply(a, b, op=op)
    x, number, reverse = (a, b, False) if isinstance(a, Tensor) else (b, a, True)
    if not _check.is_number(number):
        if hasattr(number, "__array__"):
            raise TypeError(
                f"{op}: a Tensor and a {type(number).__name__} given; fe.tensor makes it a Tensor"
            )
        return NotImplemented
    _check.floating(op, "the tensor", x)
    return Scalar.apply(x, op=op, number=float(number), reverse=reverse)


def _broadcastable(op: str, a: Tensor, b: Tensor) -> None:
    for m, n in zip(reversed(a.shape), reversed(b.shape), strict=False):
        if m != n and m != 1 and n != 1:
            raise ValueError(f"{op}: shapes {a.shape} and {b.shape} do not broadcast")


def power(x: Tensor, exponent: float) -> Any:
    """Return x ** exponent for a number `exponent`, rounded once; x: any shape."""
    if not _check.is_number(exponent):
        return NotImplemented
    _check.floating("power", "x", x)
    return Power.apply(x, exponent=float(exponent))


def _unary(op: str, x: Tensor) -> Tensor:
    _check.floating(op, "x", x)
    return Unary.apply(x, op=op)


def neg(x: Tensor) -> Tensor:
    """Return -x, exactly; x: any shape.

    >>> import fp16engine as fe
    >>> fe.functional.neg(fe.tensor([1.0, -2.0], device="reference")).numpy().tolist()
    [-1.0, 2.0]
    """
    return _unary("neg", x)


def exp(x: Tensor) -> Tensor:
    """Return e ** x, rounded once; x: any shape. In binary16 it is inf from x = 11.09 on and 0 below -17.33.

    >>> import fp16engine as fe
    >>> fe.functional.exp(fe.tensor([0.0, 12.0], "float16", "reference")).numpy().tolist()
    [1.0, inf]
    """
    return _unary("exp", x)


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm of x, rounded once; x: any shape, -inf for 0, NaN below.

    >>> import fp16engine as fe
    >>> fe.functional.log(fe.tensor([1.0], device="reference")).item()
    0.0
    """
    return _unary("log", x)


def sqrt(x: Tensor) -> Tensor:
    """Return the square root of x, rounded once; x: any shape, NaN below 0.

    >>> import fp16engine as fe
    >>> fe.functional.sqrt(fe.tensor([9.0], device="reference")).item()
    3.0
    """
    return _unary("sqrt", x)


def relu(x: Tensor) -> Tensor:
    """Return max(x, 0), exactly; x: any shape, float16 or float32. The gradient at 0 is 0.

    Raises:
        TypeError: `x` is no floating-point Tensor.

    >>> import fp16engine as fe
    >>> fe.functional.relu(fe.tensor([-1.0, 2.0], device="reference")).numpy().tolist()
    [0.0, 2.0]
    """
    return _unary("relu", x)


def relu6(x: Tensor) -> Tensor:
    """Return min(max(x, 0), 6), exactly; x: any shape. The slope at 0 and 6 is 0 (MobileNetV2, 1801.04381).

    Raises:
        TypeError: `x` is no floating-point Tensor.

    >>> import fp16engine as fe
    >>> fe.functional.relu6(fe.tensor([-1.0, 2.0, 7.0], device="reference")).numpy().tolist()
    [0.0, 2.0, 6.0]
    """
    return _unary("relu6", x)


def gelu(x: Tensor) -> Tensor:
    """Return x * Phi(x) with the normal distribution function Phi (exact erf form, 1606.08415), rounded once.

    Raises:
        TypeError: `x` is no floating-point Tensor.

    >>> import fp16engine as fe
    >>> round(fe.functional.gelu(fe.tensor([1.0], device="reference")).item(), 4)
    0.8413
    """
    return _unary("gelu", x)


def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent of x, rounded once; x: any shape.

    Raises:
        TypeError: `x` is no floating-point Tensor.

    >>> import fp16engine as fe
    >>> fe.functional.tanh(fe.tensor([0.0], device="reference")).item()
    0.0
    """
    return _unary("tanh", x)


def astype(x: Tensor, dtype: str) -> Tensor:
    """Return x rounded to nearest even in `dtype`, inf beyond its range; the gradient is cast back.

    Raises:
        ValueError: `dtype` is unknown, float64 off the reference device, or int64 for a floating-point
            tensor.
    """
    if dtype not in DTYPES:
        raise ValueError(f"astype: dtype {dtype!r} given, one of {', '.join(DTYPES)} is wanted")
    if dtype == x.dtype:
        return x
    if dtype == "int64":
        raise ValueError(f"astype: 'int64' for a {x.dtype} tensor given, a floating-point dtype is wanted")
    if dtype == "float64" and x.device != "reference":
        raise ValueError(
            f"astype: 'float64' on device {x.device!r} given; float64 is for checks on 'reference'"
        )
    return Cast.apply(x, dtype=dtype)
