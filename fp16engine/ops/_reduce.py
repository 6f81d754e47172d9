"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import Array, Function
from ..tensor import Tensor
from ..validate import flag, numpys_names
from . import _check

Axis = int | Sequence[int] | None


def unbroadcast(backend: Any, dy: Array, shape: tuple[int, ...], acc: str) -> Array:
    """Sum a gradient back to the shape its operand had before broadcasting."""
    if dy.shape == shape:
        return dy
    lead = len(dy.shape) - len(shape)
    axes = tuple(range(lead)) + tuple(
        lead + i for i, n in enumerate(shape) if n == 1 and dy.shape[lead + i] != 1
    )
    return backend.sum(dy, axes, acc).reshape(shape)


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _dropped(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(shape) if i not in axes)


class Sum(Function):
    def forward(self, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        self.shape, self.axes = x.shape, axes
        y = self.backend.sum(x, axes, self.acc)
        return y if keepdims else y.reshape(_dropped(x.shape, axes))

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.broadcast_to(dy.reshape(_kept(self.shape, self.axes)), self.shape),)


class Mean(Function):
    def forward(self, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        self.shape, self.axes = x.shape, axes
        self.count = 1
        for i in axes:
            self.count *= x.shape[i]
        y = self.backend.mean(x, axes, self.acc)
        return y if keepdims else y.reshape(_dropped(x.shape, axes))

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        share = self.backend.binary("div", dy.reshape(_kept(self.shape, self.axes)), float(self.count))
        return (self.backend.broadcast_to(share, self.shape),)


class Max(Function):
    def forward(self, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        y = self.backend.max(x, axes)
        self.x, self.y, self.axes = x, y, axes
        return y if keepdims else y.reshape(_dropped(x.shape, axes))

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.max_backward(self.x, self.y, dy.reshape(self.y.shape), self.axes),)


def _reduce(function: type[Function], op: str, x: Tensor, axis: Axis, keepdims: bool, empty: bool) -> Tensor:
    _check.floating(op, "x", x)
    axes = _check.axes(op, axis, x.ndim)
    flag(f"{op}: keepdims", keepdims)
    if not empty and any(x.shape[i] == 0 for i in axes):
        raise ValueError(f"{op}: x must have at least one element along axis {axis}, got shape {x.shape}")
    return function.apply(x, axes=axes, keepdims=keepdims) if axes else x


@numpys_names
def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the sum over axes.

        y = sum of x over `axis`

    Args:
        x: any shape, float16, bfloat16 or float32.
        axis: integer, several of them, or None for all axes.
        keepdims: keep the reduced axes with size 1.

    Returns:
        The shape of x without the axes reduced, dtype of x; 0 where no element is summed.

    Rounding:
        Accumulates as the active `Precision` says and is rounded once. The gradient is copied, not rounded.

    Raises:
        TypeError: `x` is no floating-point Tensor, or an axis is no integer.
        ValueError: an axis does not exist or comes twice.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        `numpy.sum` (arguments).

    >>> import fp16engine as fe
    >>> fe.functional.sum(fe.tensor([[1.0, 2.0], [3.0, 4.0]], device="reference"), axis=0).numpy().tolist()
    [4.0, 6.0]
    """
    return _reduce(Sum, "sum", x, axis, keepdims, empty=True)


@numpys_names
def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the mean over axes.

        y = (sum of x over `axis`) / n

    Args:
        x: any shape, float16, bfloat16 or float32.
        axis: integer, several of them, or None for all axes.
        keepdims: keep the reduced axes with size 1.

    Returns:
        The shape of x without the axes reduced, dtype of x.

    Rounding:
        The sum accumulates as the active `Precision` says. The division acts on the unrounded sum and is
        rounded once, so that with an FP32 accumulator 100 000 binary16 ones have mean 1. The gradient dy / n
        is rounded once.

    Raises:
        TypeError: `x` is no floating-point Tensor, or an axis is no integer.
        ValueError: an axis does not exist, comes twice, or has no elements.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        `numpy.mean` (arguments).

    >>> import fp16engine as fe
    >>> fe.functional.mean(fe.tensor([[1.0] * 100] * 1000, "float16", "reference")).item()
    1.0
    """
    return _reduce(Mean, "mean", x, axis, keepdims, empty=False)


@numpys_names
def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the largest value over axes; NaN if there is one.

        y = max of x over `axis`

    Args:
        x: any shape, float16, bfloat16 or float32.
        axis: integer, several of them, or None for all axes.
        keepdims: keep the reduced axes with size 1.

    Returns:
        The shape of x without the axes reduced, dtype of x.

    Rounding:
        None in the forward pass. n equal maxima get the gradient dy / n each, rounded once.

    Raises:
        TypeError: `x` is no floating-point Tensor, or an axis is no integer.
        ValueError: an axis does not exist, comes twice, or has no elements.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        `numpy.max` (arguments, NaN).

    >>> import fp16engine as fe
    >>> fe.functional.max(fe.tensor([[1.0, 5.0], [3.0, 4.0]], device="reference"), axis=1).numpy().tolist()
    [5.0, 4.0]
    """
    return _reduce(Max, "max", x, axis, keepdims, empty=False)
