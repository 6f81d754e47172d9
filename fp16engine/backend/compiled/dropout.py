"""Dropout."""

from __future__ import annotations

from ..base import Array
from .device import Device


class Dropout(Device):
    def dropout(self, x: Array, p: float, seed: int, offset: int) -> Array:
        y = self._empty_like(x)
        self.native.dropout(x, y, p, seed, offset)
        return y
