"""Operations that only move values: reshape, transpose, indexing, joining, padding, changing device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import backend as backends
from ..autograd import Array, Function
from ..tensor import Tensor
from ..validate import integer, listed, must_be, numpys_names, pair
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
        raise TypeError(must_be(f"{op}: x", "a Tensor (fe.tensor makes one)", type(x)))


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the elements of x in another shape, in C order.

    Args:
        x: any shape, any dtype.
        shape: sizes; one of them may be -1, for what the others leave.

    Returns:
        `shape`, dtype of x; on the memory of x.

    Rounding:
        None, in either direction.

    Raises:
        TypeError: `x` is no Tensor.
        ValueError: the number of elements differs.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.reshape(fe.tensor([1.0, 2.0, 3.0, 4.0], device="reference"), (2, -1)).shape
    (2, 2)
    """
    _tensor("reshape", x)
    sizes = tuple(
        integer("reshape: shape", n, -1) for n in listed("reshape: shape", shape, "a sequence of integers")
    )
    known = math.prod(n for n in sizes if n != -1)
    free = sizes.count(-1)
    fits = known == x.size if not free else free == 1 and known > 0 and x.size % known == 0
    if not fits:
        raise ValueError(must_be("reshape: shape", f"one of {x.size} elements as {x.shape} is", sizes))
    return Reshape.apply(x, shape=sizes)


def transpose(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return x with its axes permuted, as a copy.

        axis i of the result is axis axes[i] of x

    Args:
        x: any shape, any dtype.
        axes: a permutation of the axes of x; negative ones count from the end.

    Returns:
        The permuted shape, dtype of x, in C order.

    Rounding:
        None, in either direction.

    Raises:
        TypeError: `x` is no Tensor, or an axis no integer.
        ValueError: `axes` is no permutation of the axes.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.transpose(fe.tensor([[1.0, 2.0, 3.0]], device="reference"), (1, 0)).shape
    (3, 1)
    """
    _tensor("transpose", x)
    given = listed("transpose: axes", axes, "a sequence of integers")
    order = tuple(_check.axis("transpose", a, x.ndim) for a in given)
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(must_be("transpose: axes", f"a permutation of 0 to {x.ndim - 1}", tuple(given)))
    return Transpose.apply(x, axes=order)


def getitem(x: Tensor, index: Any) -> Tensor:
    """Return x[index] as a copy.

    Args:
        x: any shape, any dtype.
        index: integers, slices, None, ..., and integer or boolean arrays or Tensors, by NumPy's rules.

    Returns:
        NumPy's shape for this index, dtype of x.

    Rounding:
        None in the forward pass. An element read more than once gets the sum of its gradients, accumulated as
        the active `Precision` says and rounded once.

    Raises:
        IndexError: an index is out of range.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        NumPy (indexing).

    >>> import fp16engine as fe
    >>> fe.tensor([[1.0, 2.0], [3.0, 4.0]], device="reference")[:, 1].numpy().tolist()
    [2.0, 4.0]
    """
    if isinstance(index, tuple):
        index = tuple(i.numpy() if isinstance(i, Tensor) else i for i in index)
    elif isinstance(index, Tensor):
        index = index.numpy()
    return GetItem.apply(x, index=index)


def broadcast_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return x repeated to a larger shape, as a copy.

    Args:
        x: any shape, float16, bfloat16 or float32.
        shape: a shape that x broadcasts to.

    Returns:
        `shape`, dtype of x; x itself where it has that shape.

    Rounding:
        None in the forward pass. The gradient is summed over the repeated axes, accumulated as the active
        `Precision` says and rounded once.

    Raises:
        ValueError: x does not broadcast to `shape`.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        `numpy.broadcast_to`.

    >>> import fp16engine as fe
    >>> fe.ops.broadcast_to(fe.tensor([1.0, 2.0], device="reference"), (2, 2)).numpy().tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    return x if x.shape == shape else BroadcastTo.apply(x, shape=shape)


@numpys_names
def cat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return tensors joined along an axis.

    Args:
        tensors: one or more, of any shape; float16, bfloat16 or float32; all sizes but that of `axis` are
            equal.
        axis: the axis along which they follow each other.

    Returns:
        The common shape with the sum of the sizes along `axis`, dtype of the tensors.

    Rounding:
        None, in either direction.

    Raises:
        TypeError: an element is no floating-point Tensor, or the dtypes differ.
        ValueError: the list is empty, or shapes or devices differ.
        UnsupportedPrecision: a tensor is float32 under a precision with binary16 accumulators.

    Source:
        `torch.cat`.

    >>> import fp16engine as fe
    >>> x = fe.tensor([[1.0, 2.0]], device="reference")
    >>> fe.functional.cat([x, x], axis=1).numpy().tolist()
    [[1.0, 2.0, 1.0, 2.0]]
    """
    tensors = listed("cat: tensors", tensors, "a sequence of tensors")
    if not tensors:
        raise ValueError("cat: tensors must be at least one, got none")
    _check.alike("cat", **{f"tensors[{i}]": t for i, t in enumerate(tensors)})
    first = tensors[0]
    axis = _check.axis("cat", axis, first.ndim)
    for i, t in enumerate(tensors):
        if t.ndim != first.ndim or any(t.shape[j] != n for j, n in enumerate(first.shape) if j != axis):
            raise ValueError(
                f"cat: tensors[{i}] must be of shape {first.shape} but for axis {axis}, got {t.shape}"
            )
    return Cat.apply(*tensors, axis=axis)


def pad2d(x: Tensor, pads: int | Sequence[int]) -> Tensor:
    """Return images with rows and columns of zeros around them.

    Args:
        x: images (N, H, W, C), float16, bfloat16 or float32.
        pads: integer >= 0, (vertical, horizontal), or (top, bottom, left, right).

    Returns:
        (N, top + H + bottom, left + W + right, C), dtype of x.

    Rounding:
        None, in either direction.

    Raises:
        TypeError: `x` is no floating-point Tensor, or a pad is no integer.
        ValueError: `x` has not four axes, or a pad is negative.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.pad2d(fe.tensor([[[[1.0]]]], device="reference"), (0, 1, 2, 0)).shape
    (1, 2, 3, 1)
    """
    _check.floating("pad2d", "x", x)
    _check.rank("pad2d", "x", x, "N, H, W, C")
    if isinstance(pads, Sequence) and len(pads) == 4:
        top, bottom = pair("pad2d: pads[:2]", tuple(pads[:2]), 0)
        left, right = pair("pad2d: pads[2:]", tuple(pads[2:]), 0)
    else:
        top, left = pair("pad2d: pads", pads, 0)
        bottom, right = top, left
    return Pad2d.apply(x, pads=(top, bottom, left, right))


def pad_channels(x: Tensor, before: int, after: int) -> Tensor:
    """Return x with channels of zeros before and after its own.

    Args:
        x: (..., C), float16, bfloat16 or float32.
        before: channels of zeros in front, >= 0.
        after: channels of zeros behind, >= 0.

    Returns:
        (..., before + C + after), dtype of x.

    Rounding:
        None, in either direction.

    Raises:
        TypeError: `x` is no floating-point Tensor, or a number of channels is no integer.
        ValueError: a number of channels is negative.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        He et al., 2015, arXiv 1512.03385: option A, the shortcut without parameters of a network that widens.

    >>> import fp16engine as fe
    >>> fe.functional.pad_channels(fe.tensor([[1.0]], device="reference"), 1, 2).numpy().tolist()
    [[0.0, 1.0, 0.0, 0.0]]
    """
    _check.floating("pad_channels", "x", x)
    before, after = pair("pad_channels: before, after", (before, after), 0)
    return PadChannels.apply(x, before=before, after=after)


def flatten(x: Tensor) -> Tensor:
    """Return x with all axes but the first in one.

    Args:
        x: (N, ...), any dtype.

    Returns:
        (N, product of the other sizes), dtype of x; on the memory of x.

    Rounding:
        None, in either direction.

    Raises:
        TypeError: `x` is no Tensor.
        ValueError: `x` has no axis.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        `keras.layers.Flatten`.

    >>> import fp16engine as fe
    >>> fe.functional.flatten(fe.tensor([[[1.0, 2.0], [3.0, 4.0]]], device="reference")).shape
    (1, 4)
    """
    _tensor("flatten", x)
    if x.ndim == 0:
        raise ValueError("flatten: x must be of shape (N, ...), got ()")
    return reshape(x, (x.shape[0], math.prod(x.shape[1:])))


def to_device(x: Tensor, device: str) -> Tensor:
    """Return x on another device, bit for bit.

    Args:
        x: any shape, any dtype.
        device: "cpu", "cuda", "cuda:1" or "reference".

    Returns:
        The shape and dtype of x; x itself where it is there already. The gradient travels back.

    Rounding:
        None, in either direction.

    Raises:
        BackendUnavailable: the device is not there.
        ValueError: `device` names no device.
        TypeError: `device` is no string.

    >>> import fp16engine as fe
    >>> fe.ops.to_device(fe.tensor([0.1], "float16", "reference"), "reference").device
    'reference'
    """
    return x if device == x.device else ToDevice.apply(x, device=device)
