"""Arrays that lie one after another in memory, seen as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Array = Any


def as_one(arrays: Sequence[Array]) -> Array | None:
    """Return arrays (n, ...) that are parts of one block of memory as (sum of n, ...) on it, or None.

    Args:
        arrays: of NumPy or CuPy, one or more, equal in dtype and in all axes but the first.

    None where another array lies between them, or the order is another one.

    >>> import numpy as np
    >>> x = np.arange(6.0).reshape(3, 2)
    >>> as_one([x[:1], x[1:]]).shape, as_one([x[1:], x[:1]]), as_one([x[:1].copy(), x[1:]])
    ((3, 2), None, None)
    """
    first, base = arrays[0], arrays[0].base
    if not isinstance(base, type(first)) or not base.flags.c_contiguous or base.ndim == 0:
        return None
    start = end = _address(first)
    for x in arrays:
        if x.base is not base or _address(x) != end or not x.flags.c_contiguous:
            return None
        end += x.nbytes
    offset = start - _address(base)
    memory = base.reshape(-1).view("uint8")[offset : offset + end - start]
    return memory.view(first.dtype).reshape(sum(len(x) for x in arrays), *first.shape[1:])


def _address(x: Array) -> int:
    interface = getattr(x, "__cuda_array_interface__", None) or x.__array_interface__
    address: int = interface["data"][0]
    return address
