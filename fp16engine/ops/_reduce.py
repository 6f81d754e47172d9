"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import Array, Function
from ..tensor import Tensor
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
    if not empty and any(x.shape[i] == 0 for i in axes):
        raise ValueError(f"{op}: x has shape {x.shape}, at least one element along axis {axis} is wanted")
    return function.apply(x, axes=axes, keepdims=keepdims) if axes else x


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the sum of x over `axis` (None: all), accumulated as the active precision says and rounded once.

    Raises:
        ValueError: an axis does not exist or comes twice.

    >>> import fp16engine as fe
    >>> fe.functional.sum(fe.tensor([[1.0, 2.0], [3.0, 4.0]], device="reference"), axis=0).numpy().tolist()
    [4.0, 6.0]
    """
    return _reduce(Sum, "sum", x, axis, keepdims, empty=True)


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the mean of x over `axis` (None: all).

    The division acts on the unrounded sum, so that with an FP32 accumulator 100 000 binary16 ones have mean
    1.

    Raises:
        ValueError: an axis does not exist, comes twice, or has no elements.

    >>> import fp16engine as fe
    >>> fe.functional.mean(fe.tensor([[1.0] * 100] * 1000, "float16", "reference")).item()
    1.0
    """
    return _reduce(Mean, "mean", x, axis, keepdims, empty=False)


def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the maximum of x over `axis` (None: all), exactly; equal maxima share the gradient equally.

    Raises:
        ValueError: an axis does not exist, comes twice, or has no elements.

    >>> import fp16engine as fe
    >>> fe.functional.max(fe.tensor([[1.0, 5.0], [3.0, 4.0]], device="reference"), axis=1).numpy().tolist()
    [5.0, 4.0]
    """
    return _reduce(Max, "max", x, axis, keepdims, empty=False)
