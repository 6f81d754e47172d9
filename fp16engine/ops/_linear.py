"""Matrix products and the affine layer."""

from __future__ import annotations

import math

from ..autograd import Array, Function
from ..tensor import Tensor
from . import _check
from ._operand import drawn
from ._shape import broadcast_to, reshape


class MatMul(Function):
    multiplies = True

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a if self.needs[1] else None, b if self.needs[0] else None
        return self.backend.matmul(a, b, False, False, self.acc, drawn(self.operand, 2, a, b))

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        product = self.backend.matmul
        da = db = None
        if self.needs[0]:
            da = product(dy, self.b, False, True, self.acc, drawn(self.operand, 2, dy, self.b))
        if self.needs[1]:
            db = product(self.a, dy, True, False, self.acc, drawn(self.operand, 2, self.a, dy))
        return da, db


class Linear(Function):
    multiplies = True
    bias_input = 2

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.x, self.w = x, w
        return self.backend.linear_forward(x, w, b, self.acc, drawn(self.operand, 2, x, w))

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        precomputed = self.precomputed_bias_grad
        needs = self.needs if precomputed is None else (*self.needs[:2], False)
        operand = drawn(self.operand, 4, self.x, self.w, dy)
        dx, dw, db = self.backend.linear_backward(self.x, self.w, dy, needs, self.acc, operand)
        return dx, dw, db if precomputed is None else precomputed


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product of two tensors.

        y[..., m, n] = sum over k of a[..., m, k] * b[..., k, n]

    Args:
        a: (..., M, K), or (K,), which counts as a row; float16, bfloat16 or float32.
        b: (..., K, N), or (K,), which counts as a column; dtype of a. Batch axes broadcast.

    Returns:
        (..., M, N) without the axis of a row or a column, dtype of a.

    Rounding:
        The sum over k accumulates as the active `Precision` says and is rounded once; da and db are products
        of the same kind. With a block format, both factors are rounded to it first.

    Raises:
        TypeError: an operand is no floating-point Tensor, or the dtypes differ.
        ValueError: K, batch axes or devices differ, or an operand has no axis.
        UnsupportedPrecision: the active precision cannot multiply tensors of this dtype on this device.

    Source:
        `numpy.matmul` (shapes).

    >>> import fp16engine as fe
    >>> a = fe.tensor([[1.0, 2.0]], device="reference")
    >>> (a @ a.T).item()
    5.0
    """
    _check.alike("matmul", a=a, b=b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: a and b must have at least one axis, got shapes {a.shape} and {b.shape}")
    row, column = a.ndim == 1, b.ndim == 1
    if row:
        a = reshape(a, (1, *a.shape))
    if column:
        b = reshape(b, (*b.shape, 1))
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if b.shape[-2] != k:
        raise ValueError(f"matmul: b must have {k} rows as a has columns, got shapes {a.shape} and {b.shape}")
    if b.ndim == 2:
        batch = a.shape[:-2]
        y = MatMul.apply(reshape(a, (math.prod(batch) * m, k)) if batch else a, b)
    else:
        batch = _broadcast_shapes(a.shape[:-2], b.shape[:-2])
        y = MatMul.apply(broadcast_to(a, (*batch, m, k)), broadcast_to(b, (*batch, k, n)))
    shape = (*batch, *(() if row else (m,)), *(() if column else (n,)))
    return y if y.shape == shape else reshape(y, shape)


def _broadcast_shapes(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    longest = max(len(a), len(b))
    pairs = list(zip((1,) * (longest - len(a)) + a, (1,) * (longest - len(b)) + b, strict=True))
    if any(m != n and m != 1 and n != 1 for m, n in pairs):
        raise ValueError(f"matmul: batch axes must broadcast, got {a} and {b}")
    return tuple(n if m == 1 else m for m, n in pairs)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the affine map of the last axis of x.

        y = x @ weight.T + bias

    Args:
        x: (..., in), float16, bfloat16 or float32.
        weight: (out, in), dtype of x.
        bias: (out,), dtype of x, or None.

    Returns:
        (..., out), dtype of x.

    Rounding:
        The sum over `in` accumulates as the active `Precision` says; with FP32 accumulators, sum and bias are
        rounded once together. dx, dw and db are sums of the same kind, each rounded once. With a block
        format, x, weight and dy are rounded to it first, bias and db are not.

    Raises:
        TypeError: an argument is no floating-point Tensor, or the dtypes differ.
        ValueError: the shapes do not fit, or the devices differ.
        UnsupportedPrecision: the active precision cannot multiply tensors of this dtype on this device.

    Source:
        `torch.nn.functional.linear` (layout of weight).

    >>> import fp16engine as fe
    >>> x, w = (fe.tensor(v, device="reference") for v in ([[1.0, 2.0]], [[3.0, 4.0]]))
    >>> fe.functional.linear(x, w).item()
    11.0
    """
    _check.alike("linear", "bias", x=x, weight=weight, bias=bias)
    _check.rank("linear", "weight", weight, "out, in")
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: x must be of shape (..., {weight.shape[1]}) for weight (out, in) of shape "
            f"{weight.shape}, got {x.shape}"
        )
    _check.vector("linear", "bias", bias, weight.shape[0], "one per output")
    if x.ndim == 2:
        return Linear.apply(x, weight, bias)
    y = Linear.apply(reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])), weight, bias)
    return reshape(y, (*x.shape[:-1], weight.shape[0]))
