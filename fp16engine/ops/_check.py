"""Checks that run before any kernel; every error names the argument, what is valid and what came."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from .. import backend as backends
from ..floats import is_float
from ..tensor import Tensor
from ..validate import integer, listed, must_be, pair


def is_number(value: Any) -> bool:
    """Return whether `value` is a real Python or NumPy number (not a bool)."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def floating(op: str, name: str, x: Any) -> None:
    """Require a floating-point `Tensor`."""
    if not isinstance(x, Tensor):
        raise TypeError(must_be(f"{op}: {name}", "a Tensor (fe.tensor makes one)", type(x)))
    if not is_float(x.dtype):
        raise TypeError(f"{op}: {name} must be a floating-point tensor, got {x.dtype}; cast with .astype")


def alike(op: str, /, *optional: str, **tensors: Any) -> None:
    """Require floating-point tensors of one dtype on one device; an optional one may be None."""
    first_name, first = "", None
    for name, t in tensors.items():
        if t is None and name in optional:
            continue
        floating(op, name, t)
        if first is None:
            first_name, first = name, t
            continue
        if t.dtype != first.dtype:
            raise TypeError(
                f"{op}: {name} must be {first.dtype} as {first_name} is, got {t.dtype}; cast one of them "
                "with .astype"
            )
        same_device(op, first_name, first, name, t)


def same_device(op: str, a_name: str, a: Tensor, b_name: str, b: Tensor) -> None:
    """Require two tensors on one device."""
    if a.device != b.device:
        raise ValueError(
            f"{op}: {b_name} must be on {a.device!r} as {a_name} is, got {b.device!r}; move one with .to"
        )


def broadcastable(op: str, a: Tensor, b: Tensor) -> None:
    """Require shapes that broadcast."""
    for m, n in zip(reversed(a.shape), reversed(b.shape), strict=False):
        if m != n and m != 1 and n != 1:
            raise ValueError(f"{op}: shapes must broadcast, got {a.shape} and {b.shape}")


def rank(op: str, name: str, x: Tensor, layout: str) -> None:
    """Require as many axes as `layout` names, e.g. "N, H, W, C"."""
    if x.ndim != layout.count(",") + 1:
        raise ValueError(f"{op}: {name} must be of shape ({layout}), got {x.shape}")


def vector(op: str, name: str, x: Tensor | None, length: int, why: str) -> None:
    """Require shape (length,); None is skipped."""
    if x is not None and x.shape != (length,):
        raise ValueError(f"{op}: {name} must be of shape ({length},), {why}, got {x.shape}")


def axis(op: str, value: Any, ndim: int) -> int:
    """Return one axis counted from the front."""
    value = integer(f"{op}: axis", value, -ndim, ndim - 1)
    return value % ndim


def axes(op: str, value: Any, ndim: int) -> tuple[int, ...]:
    """Return sorted axes counted from the front; None means all."""
    if value is None:
        return tuple(range(ndim))
    if isinstance(value, numbers.Integral):
        value = (value,)
    given = listed(f"{op}: axis", value, "an integer, several of them, or None")
    found = sorted(axis(op, a, ndim) for a in given)
    if len(set(found)) != len(found):
        raise ValueError(must_be(f"{op}: axis", "different axes", tuple(given)))
    return tuple(found)


def padding(op: str, value: Any) -> tuple[int, int] | str:
    """Return "same" or (vertical, horizontal), the zeros on both sides alike."""
    if not isinstance(value, str):
        return pair(f"{op}: padding", value, 0)
    if value != "same":
        raise ValueError(must_be(f"{op}: padding", "'same', an integer or a pair of integers", value))
    return value


def window(
    op: str, image: tuple[int, int], size: tuple[int, int], stride: tuple[int, int], given: Any
) -> tuple[int, int, int, int]:
    """Return the pads (top, bottom, left, right) of a sliding window.

    `given` is "same" (TensorFlow's: ceil(size / stride) outputs, the odd pixel at the bottom and right), an
    integer, or a pair (vertical, horizontal) for both sides alike.
    """
    zeros = padding(op, given)
    if isinstance(zeros, str):
        pads: list[int] = []
        for n, k, s in zip(image, size, stride, strict=True):
            total = max((math.ceil(n / s) - 1) * s + k - n, 0)
            pads += [total // 2, total - total // 2]
    else:
        pads = [zeros[0], zeros[0], zeros[1], zeros[1]]
    padded = (image[0] + pads[0] + pads[1], image[1] + pads[2] + pads[3])
    if min(image) < 1 or size[0] > padded[0] or size[1] > padded[1]:
        raise ValueError(
            f"{op}: the padded image must be at least the window of {size[0]}x{size[1]}, got "
            f"{padded[0]}x{padded[1]} from an image of {image[0]}x{image[1]}"
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
        raise TypeError(must_be(f"{op}: {name}", "an int64 Tensor (fe.tensor makes one)", type(value)))
    if value.dtype != "int64":
        raise TypeError(f"{op}: {name} must be int64, got {value.dtype}")


def within(op: str, name: str, host: np.ndarray, count: int, what: str) -> None:
    """Require values in [0, count)."""
    if host.size == 0:
        return
    low, high = int(np.min(host)), int(np.max(host))
    if low < 0 or high >= count:
        raise ValueError(f"{op}: {name} must be {what} from 0 to {count - 1}, got {low if low < 0 else high}")
