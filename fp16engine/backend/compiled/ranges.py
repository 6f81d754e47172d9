"""Counts along binary16's number line."""

from __future__ import annotations

from collections.abc import Sequence

from ..base import Array
from .device import Device

COLUMNS = 47


class Ranges(Device):
    def range_statistics(self, arrays: Sequence[Array]) -> Array:
        counts = self.empty((len(arrays), COLUMNS), "int64")
        self.native.range_statistics(list(arrays), counts)
        return counts
