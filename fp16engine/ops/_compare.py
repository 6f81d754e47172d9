"""Comparisons and choices, element by element; the host decides, so a captured step has none."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .. import backend as backends
from ..tensor import Tensor
from ..validate import flag, must_be, numpys_names
from . import _check
from ._shape import broadcast_to, cat, getitem, reshape

_OPERATORS = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def truth(values: np.ndarray, device: str) -> Tensor:
    """Return a "bool" tensor of a host array."""
    bits = np.ascontiguousarray(values).view(np.uint8)
    return Tensor(backends.get(device).from_numpy(bits).view(np.bool_), device)


def compare(op: str, a: Tensor, b: Any) -> Any:
    """Return where `a op b` holds, the operators == != < <= > >= of tensors, with broadcasting.

    Args:
        op: "eq", "ne", "lt", "le", "gt" or "ge".
        a: any shape, any dtype.
        b: a Tensor of a shape that broadcasts with a's, any dtype, or a Python number.

    Returns:
        The broadcast shape, dtype bool, without a gradient; NotImplemented for anything else but an array.
        `x[x > 0]` and `where` take it, `.astype("float16")` makes ones and zeros of it.

    Rounding:
        None: a number is not rounded to the dtype of a, so that no float16 tensor holds a 0.1.

    Raises:
        TypeError: b is an array but no Tensor.
        ValueError: the shapes do not broadcast, or the devices differ.

    Source:
        NumPy.

    >>> import fp16engine as fe
    >>> x = fe.tensor([0.0, 1.0, 2.0], "float16", "reference")
    >>> (x > 0.5).numpy().tolist(), x[x > 0.5].numpy().tolist()
    ([False, True, True], [1.0, 2.0])
    """
    if isinstance(b, Tensor):
        _check.same_device(op, "a", a, "b", b)
        _check.broadcastable(op, a, b)
        other = b.numpy()
    elif _check.is_number(b):
        other = np.asarray(b, None if isinstance(b, int) else np.float64)
    elif hasattr(b, "__array__"):
        raise TypeError(must_be(f"{op}: an operand", "a Tensor (fe.tensor makes one) or a number", type(b)))
    else:
        return NotImplemented
    return truth(_OPERATORS[op](a.numpy(), other), a.device)


def logical(op: str, a: Tensor, b: Any) -> Any:
    """Return `a op b` of truth values, the operators & and | of tensors, with broadcasting.

    Args:
        op: "and" or "or".
        a: any shape, `dtype` "bool".
        b: a Tensor of a shape that broadcasts, `dtype` "bool".

    Returns:
        The broadcast shape, dtype bool; NotImplemented where b is no Tensor.

    Rounding:
        None.

    Raises:
        TypeError: a tensor is not bool.
        ValueError: the shapes do not broadcast, or the devices differ.

    >>> import fp16engine as fe
    >>> x = fe.tensor([0.0, 1.0, 2.0], device="reference")
    >>> ((x > 0) & ~(x > 1)).numpy().tolist()
    [False, True, False]
    """
    if not isinstance(b, Tensor):
        return NotImplemented
    _check.same_device(op, "a", a, "b", b)
    _check.broadcastable(op, a, b)
    values = [_truths(op, t) for t in (a, b)]
    return truth((np.logical_and if op == "and" else np.logical_or)(*values), a.device)


def invert(a: Tensor) -> Tensor:
    """Return the opposite of truth values, the operator ~ of tensors.

    Args:
        a: any shape, `dtype` "bool".

    Returns:
        The shape and dtype of a.

    Rounding:
        None.

    Raises:
        TypeError: a is not bool.

    >>> import fp16engine as fe
    >>> (~(fe.tensor([0.0, 1.0], device="reference") > 0)).numpy().tolist()
    [True, False]
    """
    return truth(~_truths("invert", a), a.device)


def _truths(op: str, t: Tensor) -> np.ndarray:
    if t.dtype != "bool":
        raise TypeError(f"{op}: the tensor must be bool, as comparisons give it, got {t.dtype}")
    return t.numpy()


def where(condition: Tensor | np.ndarray, a: Tensor | float, b: Tensor | float) -> Tensor:
    """Return a where a condition holds, else b.

    Args:
        condition: any shape that broadcasts, `dtype` "bool", as comparisons give it.
        a: a Tensor of any shape that broadcasts, float16, bfloat16 or float32, or a Python number where b is
            a Tensor.
        b: any shape that broadcasts, dtype of a; or a Python number.

    Returns:
        The broadcast shape, dtype of the tensors.

    Rounding:
        A number is rounded once to the dtype of the tensor; else none. The gradient goes unrounded to the one
        that was taken, the other gets 0, even where dy is inf. A broadcast operand's gradient is summed back
        as the active `Precision` says.

    Raises:
        TypeError: the condition is not bool, a and b are both numbers, or the dtypes differ.
        ValueError: the shapes do not broadcast, or the devices differ.
        UnsupportedPrecision: a tensor is float32 under a precision with binary16 accumulators.

    Source:
        `numpy.where`.

    >>> import fp16engine as fe
    >>> x = fe.tensor([-2.0, 3.0], "float16", "reference")
    >>> fe.functional.where(x > 0, x, 0.5).numpy().tolist()
    [0.5, 3.0]
    """
    chosen = condition.numpy() if isinstance(condition, Tensor) else condition
    if not isinstance(chosen, np.ndarray) or chosen.dtype != np.bool_:
        got = getattr(chosen, "dtype", type(chosen).__name__)
        raise TypeError(f"where: condition must be bool, as comparisons give it, got {got}")
    given = [t for t in (a, b) if isinstance(t, Tensor)]
    if not given:
        raise TypeError(must_be("where: a or b", "a Tensor", (a, b)))
    first, second = (_filled(t, given[0]) for t in (a, b))
    _check.alike("where", a=first, b=second)
    try:
        shape = np.broadcast_shapes(chosen.shape, first.shape, second.shape)
    except ValueError:
        raise ValueError(
            f"where: shapes must broadcast, got {chosen.shape}, {first.shape} and {second.shape}"
        ) from None
    both = cat([reshape(broadcast_to(t, shape), (-1,)) for t in (first, second)])
    index = np.arange(both.size // 2) + np.where(np.broadcast_to(chosen, shape).ravel(), 0, both.size // 2)
    return reshape(getitem(both, index), shape)


def _filled(value: Any, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if not _check.is_number(value):
        raise TypeError(must_be("where: an operand", "a Tensor or a number", type(value)))
    return Tensor(backends.get(like.device).full((), float(value), like.dtype), like.device)


@numpys_names
def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the index of the largest value along an axis.

    Args:
        x: any shape, any dtype.
        axis: an axis, or None for the index among all elements in C order.
        keepdims: keep the axis with size 1.

    Returns:
        The shape of x without the axis, int64, without a gradient: the first of equal values, the first NaN
        where there is one.

    Rounding:
        None.

    Raises:
        TypeError: `x` is no Tensor, or `axis` no integer.
        ValueError: the axis does not exist or has no elements.

    Source:
        `numpy.argmax`.

    >>> import fp16engine as fe
    >>> fe.tensor([[1.0, 5.0], [3.0, 2.0]], device="reference").argmax(axis=1).numpy().tolist()
    [1, 0]
    """
    if not isinstance(x, Tensor):
        raise TypeError(must_be("argmax: x", "a Tensor (fe.tensor makes one)", type(x)))
    along = None if axis is None else _check.axis("argmax", axis, x.ndim)
    flag("argmax: keepdims", keepdims)
    if (x.size if along is None else x.shape[along]) == 0:
        raise ValueError(f"argmax: x must have at least one element along axis {axis}, got shape {x.shape}")
    found = np.asarray(np.argmax(x.numpy(), axis=along, keepdims=keepdims), np.int64)
    return Tensor(backends.get(x.device).from_numpy(found), x.device)
