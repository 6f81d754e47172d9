"""Operations that only move values: reshape, transpose, indexing, joining, padding, changing device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import backend as backends
from ..autograd import Array, Function
from ..tensor import Tensor
from . import _check
from ._reduce import unbroadcast


class Reshape(Function):
    def forward(self, x: Array, shape: tuple[int, ...]) -> Array:
        self.shape = x.shape
        return x.reshape(shape)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (dy.reshape(self.shape),)


class Transpose(Function):
    def forward(self, x: Array, axes: tuple[int, ...]) -> Array:
        self.inverse = tuple(axes.index(i) for i in range(len(axes)))
        return self.backend.transpose(x, axes)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.transpose(dy, self.inverse),)


class GetItem(Function):
    def forward(self, x: Array, index: Any) -> Array:
        self.shape, self.dtype, self.index = x.shape, str(x.dtype), index
        return self.backend.getitem(x, index)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.index_add(self.shape, self.dtype, self.index, dy, self.acc),)


class BroadcastTo(Function):
    def forward(self, x: Array, shape: tuple[int, ...]) -> Array:
        self.shape = x.shape
        return self.backend.broadcast_to(x, shape)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (unbroadcast(self.backend, dy, self.shape, self.acc),)


class Cat(Function):
    def forward(self, *xs: Array, axis: int) -> Array:
        self.axis, self.sizes = axis, [x.shape[axis] for x in xs]
        return self.backend.cat(xs, axis)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        grads, start = [], 0
        for size, need in zip(self.sizes, self.needs, strict=True):
            index = (slice(None),) * self.axis + (slice(start, start + size),)
            grads.append(self.backend.getitem(dy, index) if need else None)
            start += size
        return tuple(grads)


class Pad2d(Function):
    def forward(self, x: Array, pads: tuple[int, int, int, int]) -> Array:
        self.pads = pads
        return self.backend.pad2d(x, pads)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.crop2d(dy, self.pads),)


class PadChannels(Function):
    """Channels are the columns of one image of a single channel: zeros and one copy, whatever the shape."""

    def forward(self, x: Array, before: int, after: int) -> Array:
        self.shape, self.pads = x.shape, (0, 0, before, after)
        rows, channels = math.prod(x.shape[:-1]), x.shape[-1]
        y = self.backend.pad2d(x.reshape(1, rows, channels, 1), self.pads)
        return y.reshape(*x.shape[:-1], before + channels + after)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        rows = math.prod(self.shape[:-1])
        return (self.backend.crop2d(dy.reshape(1, rows, dy.shape[-1], 1), self.pads).reshape(self.shape),)


class ToDevice(Function):
    accumulates = False

    def forward(self, x: Array, device: str) -> Array:
        self.source, self.target = self.backend, backends.get(device)
        self.device = device
        return self.target.from_numpy(self.source.to_numpy(x))

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.source.from_numpy(self.target.to_numpy(dy)),)


def _tensor(op: str, x: Any) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: x is a {type(x).__name__}, a Tensor is wanted (fe.tensor makes one)")


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the elements of x in `shape`, in C order; one size may be -1. Shares memory with x.

    Raises:
        ValueError: the number of elements differs.

    >>> import fp16engine as fe
    >>> fe.functional.reshape(fe.tensor([1.0, 2.0, 3.0, 4.0], device="reference"), (2, -1)).shape
    (2, 2)
    """
    _tensor("reshape", x)
    wanted = tuple(int(n) for n in shape)
    known = math.prod(n for n in wanted if n != -1)
    free = wanted.count(-1)
    fits = known == x.size if not free else free == 1 and known > 0 and x.size % known == 0
    if not fits or min(wanted, default=0) < -1:
        raise ValueError(
            f"reshape: shape {wanted} given for a tensor of shape {x.shape} with {x.size} elements"
        )
    return Reshape.apply(x, shape=wanted)


def transpose(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return x with its axes permuted: axis i of the result is axis axes[i] of x. Copies.

    Raises:
        ValueError: `axes` is no permutation of the axes.

    >>> import fp16engine as fe
    >>> fe.functional.transpose(fe.tensor([[1.0, 2.0, 3.0]], device="reference"), (1, 0)).shape
    (3, 1)
    """
    _tensor("transpose", x)
    order = tuple(_check.axis("transpose", a, x.ndim) for a in axes)
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(f"transpose: axes {tuple(axes)} given, a permutation of 0 to {x.ndim - 1} is wanted")
    return Transpose.apply(x, axes=order)


def getitem(x: Tensor, index: Any) -> Tensor:
    """Return x[index] as a copy: integers, slices, None, ..., and integer or boolean arrays.

    The gradient is added back at the places read; places read twice get both gradients, accumulated as the
    active precision says.

    Raises:
        IndexError: a place does not exist.
    """
    if isinstance(index, tuple):
        index = tuple(i.numpy() if isinstance(i, Tensor) else i for i in index)
    elif isinstance(index, Tensor):
        index = index.numpy()
    return GetItem.apply(x, index=index)


def broadcast_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return x repeated to `shape` (NumPy's rules); the gradient is summed back."""
    return x if x.shape == shape else BroadcastTo.apply(x, shape=shape)


def cat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return the tensors joined along `axis`; all other sizes, dtypes and devices are equal.

    Raises:
        TypeError: dtypes differ, or an element is no Tensor.
        ValueError: the list is empty, or shapes or devices differ.

    >>> import fp16engine as fe
    >>> x = fe.tensor([[1.0, 2.0]], device="reference")
    >>> fe.functional.cat([x, x], axis=1).numpy().tolist()
    [[1.0, 2.0, 1.0, 2.0]]
    """
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: an empty list given, at least one tensor is wanted")
    _check.alike("cat", **{f"tensors[{i}]": t for i, t in enumerate(tensors)})
    first = tensors[0]
    axis = _check.axis("cat", axis, first.ndim)
    for i, t in enumerate(tensors):
        if t.ndim != first.ndim or any(t.shape[j] != n for j, n in enumerate(first.shape) if j != axis):
            raise ValueError(
                f"cat: tensors[0] has shape {first.shape} and tensors[{i}] {t.shape}; "
                f"only axis {axis} may differ"
            )
    return Cat.apply(*tensors, axis=axis)


def pad2d(x: Tensor, pads: int | Sequence[int]) -> Tensor:
    """Return x: (N, H, W, C) with rows and columns of zeros around each image.

    `pads` is one integer, a pair (vertical, horizontal), or (top, bottom, left, right).

    Raises:
        ValueError: `x` has not four axes, or a pad is negative.

    >>> import fp16engine as fe
    >>> fe.functional.pad2d(fe.tensor([[[[1.0]]]], device="reference"), (0, 1, 2, 0)).shape
    (1, 2, 3, 1)
    """
    _check.floating("pad2d", "x", x)
    _check.rank("pad2d", "x", x, "N, H, W, C")
    if isinstance(pads, Sequence) and len(pads) == 4:
        top, bottom = _check.pair("pad2d", "pads[:2]", tuple(pads[:2]), 0)
        left, right = _check.pair("pad2d", "pads[2:]", tuple(pads[2:]), 0)
    else:
        top, left = _check.pair("pad2d", "pads", pads, 0)
        bottom, right = top, left
    return Pad2d.apply(x, pads=(top, bottom, left, right))


def pad_channels(x: Tensor, before: int, after: int) -> Tensor:
    """Return x: (..., C) with zero channels around its last axis: (..., before + C + after).

    The parameter-free shortcut of a residual network whose width grows (He et al., 1512.03385, option A).

    Raises:
        ValueError: a number of channels is negative.

    >>> import fp16engine as fe
    >>> fe.functional.pad_channels(fe.tensor([[1.0]], device="reference"), 1, 2).numpy().tolist()
    [[0.0, 1.0, 0.0, 0.0]]
    """
    _check.floating("pad_channels", "x", x)
    before, after = _check.pair("pad_channels", "before, after", (before, after), 0)
    return PadChannels.apply(x, before=before, after=after)


def flatten(x: Tensor) -> Tensor:
    """Return x: (N, ...) as (N, product of the rest), sharing memory.

    Raises:
        ValueError: `x` has no axis.

    >>> import fp16engine as fe
    >>> fe.functional.flatten(fe.tensor([[[1.0, 2.0], [3.0, 4.0]]], device="reference")).shape
    (1, 4)
    """
    _tensor("flatten", x)
    if x.ndim == 0:
        raise ValueError("flatten: x has shape (), (N, ...) is wanted")
    return reshape(x, (x.shape[0], math.prod(x.shape[1:])))


def to_device(x: Tensor, device: str) -> Tensor:
    """Return x on `device`, bit for bit; the gradient travels back."""
    return x if device == x.device else ToDevice.apply(x, device=device)
