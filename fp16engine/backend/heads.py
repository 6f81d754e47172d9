"""Heads of attention side by side, as products leave them, and one after another, as products take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any
Transpose = Callable[[Array, tuple[int, ...]], Array]


def thirds(width: int) -> tuple[slice, slice, slice]:
    """Return where queries, keys and values lie in rows of `width` that hold all three."""
    part = width // 3
    return slice(0, part), slice(part, 2 * part), slice(2 * part, 3 * part)


def parts(q: Array, k: Array | None, v: Array | None) -> tuple[Array, Array, Array]:
    """Return q, k and v; views of q (B, S, 3 * H * D) where it holds all three and k and v are None."""
    if k is not None:
        return q, k, v
    first, second, third = (q[..., part] for part in thirds(q.shape[-1]))
    return first, second, third


def apart(transpose: Transpose, x: Array, heads: int) -> Array:
    """(B, S, heads * D) -> (B, heads, S, D)"""
    b, s, width = x.shape
    return transpose(x.reshape(b, s, heads, width // heads), (0, 2, 1, 3))


def joined(transpose: Transpose, x: Array) -> Array:
    """(B, heads, S, D) -> (B, S, heads * D)"""
    b, heads, s, width = x.shape
    return transpose(x, (0, 2, 1, 3)).reshape(b, s, heads * width)
