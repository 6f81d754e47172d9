"""The logistic function and SiLU, composed of operations that round each."""

from __future__ import annotations

from typing import Any

from ..autograd import Array, Function
from ..tensor import Tensor
from . import _check


def _parts(f: Any, x: Array) -> tuple[Array, Array]:
    """min(x, 0), and 1 + exp(-|x|), which lies between 1 and 2."""
    below = f.unary("relu", f.unary("neg", x))
    size = f.binary("add", f.unary("relu", x), below)
    return f.unary("neg", below), f.binary("add", f.unary("exp", f.unary("neg", size)), 1.0)


def _logistic(f: Any, x: Array) -> Array:
    """exp(min(x, 0)) / (1 + exp(-|x|)): no exponential overflows, and small results keep their digits."""
    negative, bottom = _parts(f, x)
    return f.binary("div", f.unary("exp", negative), bottom)


class Sigmoid(Function):
    def forward(self, x: Array) -> Array:
        self.x, self.y = x, _logistic(self.backend, x)
        return self.y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        f = self.backend
        return (f.binary("mul", dy, f.binary("mul", self.y, _logistic(f, f.unary("neg", self.x)))),)


class SiLU(Function):
    def forward(self, x: Array) -> Array:
        self.x, f = x, self.backend
        negative, bottom = _parts(f, x)
        half = f.unary(
            "exp", f.binary("mul", negative, 0.5)
        )  # its square may be subnormal, x times it is not
        return f.binary("div", f.binary("mul", f.binary("mul", x, half), half), bottom)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        f = self.backend
        slope = f.binary("add", f.binary("mul", self.x, _logistic(f, f.unary("neg", self.x))), 1.0)
        return (f.binary("mul", dy, f.binary("mul", _logistic(f, self.x), slope)),)


def sigmoid(x: Tensor) -> Tensor:
    """Return the logistic function of x.

        y = 1 / (1 + e ** -x) = e ** min(x, 0) / (1 + e ** -|x|)

    Args:
        x: any shape, float16, bfloat16 or float32.

    Returns:
        The shape and dtype of x, in [0, 1]; small values keep their digits, down to the subnormal ones.

    Rounding:
        Rounded after each of four operations: both exponentials, the sum, the quotient. So is the gradient
        dy * (y * sigmoid(-x)), after each product and within sigmoid(-x).

    Raises:
        TypeError: `x` is no floating-point Tensor.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.sigmoid(fe.tensor([-100.0, 0.0, 100.0], "float16", "reference")).numpy().tolist()
    [0.0, 0.5, 1.0]
    """
    _check.floating("sigmoid", "x", x)
    return Sigmoid.apply(x)


def silu(x: Tensor) -> Tensor:
    """Return the sigmoid linear unit, also called swish.

        y = x * sigmoid(x)

    Args:
        x: any shape, float16, bfloat16 or float32.

    Returns:
        The shape and dtype of x.

    Rounding:
        Rounded after each of six operations: with h = exp(min(x, 0) / 2), y = (x * h) * h / (1 + exp(-|x|)).
        The gradient dy * (sigmoid(x) * (1 + x * sigmoid(-x))) is
        rounded after each of its operations.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        Elfwing et al., 2017, arXiv 1702.03118.

    >>> import fp16engine as fe
    >>> round(fe.functional.silu(fe.tensor([1.0], device="reference")).item(), 4)
    0.7311
    """
    _check.floating("silu", "x", x)
    return SiLU.apply(x)
