"""Checks that run before any kernel; every message names the argument, what came and what is wanted."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend as backends
from ..tensor import Tensor

FLOATS = ("float16", "float32", "float64")


def is_number(value: Any) -> bool:
    """Return whether `value` is a real Python or NumPy number (not a bool)."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def floating(op: str, name: str, x: Any) -> None:
    """Require a floating-point `Tensor`."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: {name} is a {type(x).__name__}, a Tensor is wanted (fe.tensor makes one)")
    if x.dtype not in FLOATS:
        raise TypeError(f"{op}: {name} is {x.dtype}, a floating-point tensor is wanted; cast with .astype")


def alike(op: str, **tensors: Tensor | None) -> None:
    """Require floating-point tensors of one dtype on one device; None is skipped."""
    first_name, first = "", None
    for name, t in tensors.items():
        if t is None:
            continue
        floating(op, name, t)
        if first is None:
            first_name, first = name, t
            continue
        if t.dtype != first.dtype:
            raise TypeError(
                f"{op}: {first_name} is {first.dtype} and {name} is {t.dtype}; cast one of them with .astype"
            )
        same_device(op, first_name, first, name, t)


def same_device(op: str, a_name: str, a: Tensor, b_name: str, b: Tensor) -> None:
    """Require two tensors on one device."""
    if a.device != b.device:
        raise ValueError(f"{op}: {a_name} is on {a.device!r} and {b_name} on {b.device!r}; move one with .to")


def rank(op: str, name: str, x: Tensor, layout: str) -> None:
    """Require as many axes as `layout` names, e.g. "N, H, W, C"."""
    if x.ndim != layout.count(",") + 1:
        raise ValueError(f"{op}: {name} has shape {x.shape}, ({layout}) is wanted")


def vector(op: str, name: str, x: Tensor | None, length: int, why: str) -> None:
    """Require shape (length,); None is skipped."""
    if x is not None and x.shape != (length,):
        raise ValueError(f"{op}: {name} has shape {x.shape}, ({length},) is wanted ({why})")


def axis(op: str, value: Any, ndim: int) -> int:
    """Return one axis counted from the front."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{op}: axis is {value!r}, an integer is wanted")
    value = int(value)
    if not -ndim <= value < ndim:
        raise ValueError(f"{op}: axis is {value}, a tensor with {ndim} axes has {-ndim} to {ndim - 1}")
    return value % ndim


def axes(op: str, value: Any, ndim: int) -> tuple[int, ...]:
    """Return sorted axes counted from the front; None means all."""
    if value is None:
        return tuple(range(ndim))
    if isinstance(value, numbers.Integral):
        value = (value,)
    found = sorted(axis(op, a, ndim) for a in value)
    if len(set(found)) != len(found):
        raise ValueError(f"{op}: axis is {tuple(value)}, each axis may come once")
    return tuple(found)


def pair(op: str, name: str, value: Any, minimum: int) -> tuple[int, int]:
    """Return (vertical, horizontal) from an integer or a pair of integers >= `minimum`."""
    both = (value, value) if isinstance(value, numbers.Integral) else value
    if (
        not isinstance(both, Sequence)
        or len(both) != 2
        or not all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in both)
    ):
        raise TypeError(f"{op}: {name} is {value!r}, an integer or a pair of integers is wanted")
    if min(both) < minimum:
        raise ValueError(f"{op}: {name} is {value!r}, values >= {minimum} are wanted")
    return int(both[0]), int(both[1])


def window(
    op: str, image: tuple[int, int], size: tuple[int, int], stride: tuple[int, int], padding: Any
) -> tuple[int, int, int, int]:
    """Return the pads (top, bottom, left, right) of a sliding window.

    `padding` is "same" (TensorFlow's: ceil(size / stride) outputs, the odd pixel at the bottom and right), an
    integer, or a pair (vertical, horizontal) for both sides alike.
    """
    if isinstance(padding, str):
        if padding != "same":
            raise ValueError(
                f"{op}: padding is {padding!r}, 'same', an integer or a pair of integers is wanted"
            )
        pads: list[int] = []
        for n, k, s in zip(image, size, stride, strict=True):
            total = max((math.ceil(n / s) - 1) * s + k - n, 0)
            pads += [total // 2, total - total // 2]
    else:
        vertical, horizontal = pair(op, "padding", padding, 0)
        pads = [vertical, vertical, horizontal, horizontal]
    padded = (image[0] + pads[0] + pads[1], image[1] + pads[2] + pads[3])
    if min(image) < 1 or size[0] > padded[0] or size[1] > padded[1]:
        raise ValueError(
            f"{op}: a window of {size[0]}x{size[1]} does not fit into an image of {image[0]}x{image[1]} "
            f"(padded: {padded[0]}x{padded[1]})"
        )
    return pads[0], pads[1], pads[2], pads[3]


def indices(op: str, name: str, value: Any, count: int, what: str) -> None:
    """Require an int64 tensor with values in [0, count)."""
    integers(op, name, value)
    if not recording(value):
        within(op, name, value.numpy(), count, what)


def recording(value: Tensor) -> bool:
    """Tell whether a step is recorded: there are no values to check then, and it was checked when it ran."""
    return backends.get(value.device).recording


def integers(op: str, name: str, value: Any) -> None:
    """Require an int64 tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{op}: {name} is a {type(value).__name__}, an int64 Tensor is wanted (fe.tensor makes one)"
        )
    if value.dtype != "int64":
        raise TypeError(f"{op}: {name} is {value.dtype}, int64 is wanted")


def within(op: str, name: str, host: np.ndarray, count: int, what: str) -> None:
    """Require values in [0, count)."""
    if host.size == 0:
        return
    low, high = int(np.min(host)), int(np.max(host))
    if low < 0 or high >= count:
        raise ValueError(f"{op}: {name} holds {low if low < 0 else high}, {what} 0 to {count - 1} are wanted")
