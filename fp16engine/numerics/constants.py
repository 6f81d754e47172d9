"""Numbers in a program that stop being what they were in binary16: an eps that is 0."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..precision import Precision

_LARGEST = float(np.finfo(np.float16).max)


class Lost(NamedTuple):
    """A number that is 0 in binary16, or a norm's eps that cannot do its work: where, in which operation."""

    layer: str
    op: str
    value: float

    @property
    def remedy(self) -> str:
        """What to use instead."""
        if self.op in ("add", "sub"):
            return "use 1e-3, or at least 6e-8, the smallest binary16 number"
        return "use eps=1e-3, or at least 1e-9"

    def in_words(self) -> str:
        """Say what is wrong, in one clause."""
        if self.op in ("add", "sub"):
            return f"{self.op} of {self.value:g}, which is 0 in binary16"
        return f"eps={self.value:g} makes 1 / sqrt(var + eps) infinite in binary16 where var is 0"


def lost(layer: str, op: str, named: dict[str, Any], policy: Precision) -> Iterator[Lost]:
    """Yield the lost numbers among the arguments of a forward call of the backend.

    An added number counts where an array of float16 is added to; the eps of a norm where its statistics are
    stored in float16.
    """
    if op == "binary" and named["op"] in ("add", "sub"):
        a, b = named["a"], named["b"]
        for value, other in ((a, b), (b, a)):
            half = str(getattr(other, "dtype", "")) == "float16"
            if half and isinstance(value, float) and value != 0 and np.float16(value) == 0:
                yield Lost(layer, str(named["op"]), value)
    eps = named.get("eps")
    if isinstance(eps, float) and policy.statistics == "float16" and 1 / math.sqrt(eps) > _LARGEST:
        yield Lost(layer, op, eps)
