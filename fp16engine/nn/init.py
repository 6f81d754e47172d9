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
from ..validate import integer, must_be
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
    return uniform(shape, math.sqrt(6.0 / (fan_in + fan_out)), weight_decay)


def uniform(shape: tuple[int, ...], limit: float, weight_decay: float | None = None) -> Parameter:
    """Return a float32 parameter uniform in [-limit, limit]."""
    return _parameter(shape, lambda: random.generator().uniform(-limit, limit, shape), weight_decay)


def dirac(shape: tuple[int, int, int, int]) -> Parameter:
    """Return a float32 kernel (K, kh, kw, C), kh and kw odd: filter k < C copies channel k, others are
    uniform.

    The uniform ones lie in ±1 / sqrt(kh * kw * C), PyTorch's default (`torch.nn.init.dirac_`, Conv2d).
    """
    filters, height, width, channels = shape
    limit, copies = (height * width * channels) ** -0.5, np.arange(min(filters, channels))

    def values() -> NDArray[Any]:
        kernel = np.array(random.generator().uniform(-limit, limit, shape))
        kernel[copies] = 0.0
        kernel[copies, height // 2, width // 2, copies] = 1.0
        return kernel

    return _parameter(shape, values)


def constant(shape: tuple[int, ...], value: float) -> Parameter:
    """Return a float32 parameter full of `value`."""
    return _parameter(shape, lambda: np.full(shape, value, np.float32))


def _parameter(
    shape: tuple[int, ...], values: Callable[[], NDArray[Any]], weight_decay: float | None = None
) -> Parameter:
    with _enough_memory(shape):
        array = np.broadcast_to(np.float32(0), shape) if _shapes_only.get() else values()
        array = array.astype(np.float32, copy=False)
    return Parameter(array, weight_decay=weight_decay)


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
