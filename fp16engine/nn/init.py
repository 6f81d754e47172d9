"""Initial values, drawn from the counter-based streams of `fp16engine.random`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import random
from ..validate import integer
from .module import Parameter


def glorot_uniform(
    shape: tuple[int, ...], fan_in: int, fan_out: int, weight_decay: float | None = None
) -> Parameter:
    """Return a float32 parameter uniform in ±sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    limit = math.sqrt(6.0 / (fan_in + fan_out))
    return Parameter(
        random.generator().uniform(-limit, limit, shape).astype(np.float32), weight_decay=weight_decay
    )


def uniform(shape: tuple[int, ...], limit: float) -> Parameter:
    """Return a float32 parameter uniform in [-limit, limit]."""
    return Parameter(random.generator().uniform(-limit, limit, shape).astype(np.float32))


def constant(shape: tuple[int, ...], value: float) -> Parameter:
    """Return a float32 parameter full of `value`."""
    return Parameter(np.full(shape, value, np.float32))


def positive(layer: str, **sizes: Any) -> None:
    """Require integers >= 1.

    Raises:
            TypeError, ValueError: one of them is not; the message names the layer and the argument.
    """
    for name, n in sizes.items():
        integer(f"{layer}: {name}", n, 1)
