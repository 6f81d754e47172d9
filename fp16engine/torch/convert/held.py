"""A tensor of ours in the place of one of PyTorch's, whose axes may lie in another order in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ... import functional as F
from ...tensor import Tensor

IMAGE = (0, 2, 3, 1)  # PyTorch's axes N, C, H, W where ours lie: N, H, W, C


def channels_last(ndim: int) -> tuple[int, ...]:
    """Return the order with PyTorch's axis of channels, 1, at the end.

    >>> channels_last(4), channels_last(2)
    ((0, 2, 3, 1), (0, 1))
    """
    return (0, *range(2, ndim), 1)


@dataclass(frozen=True)
class Held:
    """A value of PyTorch's graph: `order[i]` is the axis of PyTorch's tensor that lies at axis i of `tensor`.

    A permutation of axes is a new `order`, no copy; images stay (N, H, W, C) until an operation
    needs another.

    >>> import fp16engine as fe
    >>> x = Held(fe.tensor([[[[1.0, 2.0, 3.0]]]], device="reference"), IMAGE)
    >>> x.shape, x.permuted((0, 2, 3, 1)).order
    ((1, 3, 1, 1), (0, 1, 2, 3))
    """

    tensor: Tensor
    order: tuple[int, ...]

    @classmethod
    def plain(cls, tensor: Tensor) -> Held:
        """Return a tensor in PyTorch's own order."""
        return cls(tensor, tuple(range(tensor.ndim)))

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.order)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in PyTorch's order."""
        return tuple(self.tensor.shape[self.order.index(axis)] for axis in range(self.ndim))

    def axis(self, dim: int) -> int:
        """Return where PyTorch's axis `dim` lies."""
        return self.order.index(dim % self.ndim)

    def arranged(self, order: Sequence[int]) -> Tensor:
        """Return the tensor with its axes in another order; a copy only where that moves elements."""
        axes = tuple(self.order.index(axis) for axis in order)
        if axes == tuple(range(self.ndim)):
            return self.tensor
        moved = [axis for axis in axes if self.tensor.shape[axis] != 1]
        if moved == sorted(moved):
            return F.reshape(self.tensor, tuple(self.tensor.shape[axis] for axis in axes))
        return F.transpose(self.tensor, axes)

    def in_order(self) -> Tensor:
        """Return the tensor in PyTorch's order."""
        return self.arranged(range(self.ndim))

    def with_last(self, dim: int) -> Held:
        """Return the same value with PyTorch's axis `dim` at the end."""
        dim %= self.ndim
        if self.order[-1] == dim:
            return self
        order = (*(axis for axis in range(self.ndim) if axis != dim), dim)
        return Held(self.arranged(order), order)

    def permuted(self, axes: Sequence[int]) -> Held:
        """Return what `torch.permute` does."""
        axes = [axis % self.ndim for axis in axes]
        return Held(self.tensor, tuple(axes.index(axis) for axis in self.order))

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Held:
        """Return an operation on every element by itself."""
        return Held(function(self.tensor), self.order)

    def reduced(self, function: Callable[..., Tensor], dims: Any, keepdim: bool) -> Held:
        """Return a reduction over PyTorch's axes `dims`, an integer, several, or None for all."""
        if dims is None:
            dims = tuple(range(self.ndim))
        dims = {dim % self.ndim for dim in ((dims,) if isinstance(dims, int) else dims)}
        result = function(self.tensor, tuple(self.axis(dim) for dim in sorted(dims)), keepdims=keepdim)
        if keepdim:
            return Held(result, self.order)
        left = sorted(set(range(self.ndim)) - dims)
        return Held(result, tuple(left.index(axis) for axis in self.order if axis in left))

    def sliced(self, dim: int, start: int, stop: int) -> Held:
        """Return the elements from `start` to `stop` along PyTorch's axis `dim`."""
        if (start, stop) == (0, self.shape[dim % self.ndim]):
            return self
        index = (slice(None),) * self.axis(dim) + (slice(start, stop),)
        return Held(self.tensor[index], self.order)

    def unsqueezed(self, dim: int) -> Held:
        """Return the tensor with a new axis of size 1."""
        dim %= self.ndim + 1
        shifted = [axis + (axis >= dim) for axis in self.order]
        at = self.order.index(dim) if dim < self.ndim else self.ndim
        shape = (*self.tensor.shape[:at], 1, *self.tensor.shape[at:])
        return Held(F.reshape(self.tensor, shape), (*shifted[:at], dim, *shifted[at:]))

    def squeezed(self, dim: int) -> Held:
        """Return the tensor without an axis of size 1; itself where the axis has another size."""
        dim %= self.ndim
        if self.shape[dim] != 1:
            return self
        at = self.axis(dim)
        shape = (*self.tensor.shape[:at], *self.tensor.shape[at + 1 :])
        left = [axis - (axis > dim) for axis in self.order if axis != dim]
        return Held(F.reshape(self.tensor, shape), tuple(left))

    def reshaped(self, shape: Sequence[int]) -> Held:
        """Return the elements in another shape, in PyTorch's order."""
        return Held.plain(F.reshape(self.in_order(), tuple(shape)))

    def flattened(self, start: int, end: int) -> Held:
        """Return the tensor with the axes from `start` to `end` in one."""
        shape, start, end = self.shape, start % self.ndim, end % self.ndim
        return self.reshaped((*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))
