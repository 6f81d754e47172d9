"""Initial values, drawn from the counter-based streams of `fp16engine.random`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import random
from ..validate import integer, must_be
from .module import Parameter


def glorot_uniform(
    shape: tuple[int, ...], fan_in: int, fan_out: int, weight_decay: float | None = None
) -> Parameter:
    """Return a float32 parameter uniform in ±sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    return uniform(shape, math.sqrt(6.0 / (fan_in + fan_out)), weight_decay)


def uniform(shape: tuple[int, ...], limit: float, weight_decay: float | None = None) -> Parameter:
    """Return a float32 parameter uniform in [-limit, limit]."""
    with _enough_memory(shape):
        values = random.generator().uniform(-limit, limit, shape).astype(np.float32)
    return Parameter(values, weight_decay=weight_decay)


def constant(shape: tuple[int, ...], value: float) -> Parameter:
    """Return a float32 parameter full of `value`."""
    with _enough_memory(shape):
        values = np.full(shape, value, np.float32)
    return Parameter(values)


@contextmanager
def _enough_memory(shape: tuple[int, ...]) -> Iterator[None]:
    """Say in one sentence which shape is too large; NumPy has an error for every order of magnitude."""
    try:
        yield
    except (MemoryError, OverflowError, ValueError):
        raise MemoryError(must_be("a parameter's shape", "one that fits into memory", shape)) from None


def positive(layer: str, **sizes: Any) -> None:
    """Require integers >= 1.

    Raises:
            TypeError, ValueError: one of them is not; the message names the layer and the argument.
    """
    for name, n in sizes.items():
        integer(f"{layer}: {name}", n, 1)
