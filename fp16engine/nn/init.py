"""Initial values, drawn from the counter-based streams of `fp16engine.random`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import random
from ..validate import integer
from .module import Parameter

_shapes_only: ContextVar[bool] = ContextVar("fp16engine_shapes_only", default=False)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Give the parameters made inside a `with` block their shapes, but one zero in place of all values.

    A network of any size takes next to no memory then; it can be looked at, not run.
    """
    token = _shapes_only.set(True)
    try:
        yield
    finally:
        _shapes_only.reset(token)


def glorot_uniform(
    shape: tuple[int, ...], fan_in: int, fan_out: int, weight_decay: float | None = None
) -> Parameter:
    """Return a float32 parameter uniform in ±sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    limit = math.sqrt(6.0 / (fan_in + fan_out))
    return _parameter(shape, lambda: random.generator().uniform(-limit, limit, shape), weight_decay)


def uniform(shape: tuple[int, ...], limit: float) -> Parameter:
    """Return a float32 parameter uniform in [-limit, limit]."""
    return _parameter(shape, lambda: random.generator().uniform(-limit, limit, shape))


def constant(shape: tuple[int, ...], value: float) -> Parameter:
    """Return a float32 parameter full of `value`."""
    return _parameter(shape, lambda: np.full(shape, value, np.float32))


def _parameter(
    shape: tuple[int, ...], values: Callable[[], NDArray[Any]], weight_decay: float | None = None
) -> Parameter:
    array = np.broadcast_to(np.float32(0), shape) if _shapes_only.get() else values()
    return Parameter(array.astype(np.float32, copy=False), weight_decay=weight_decay)


def positive(layer: str, **sizes: Any) -> None:
    """Require integers >= 1.

    Raises:
            TypeError, ValueError: one of them is not; the message names the layer and the argument.
    """
    for name, n in sizes.items():
        integer(f"{layer}: {name}", n, 1)
