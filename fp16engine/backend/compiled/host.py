"""Arrays of devices whose memory is the host's: NumPy arrays, however they were allocated."""

from __future__ import annotations

import numpy as np

from .shape import Storage


class HostArrays(Storage):
    xp = np

    def from_numpy(self, a: np.ndarray) -> np.ndarray:
        return self.copy(a)

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        return np.array(x)

    @staticmethod
    def address(x: np.ndarray) -> int:
        address: int = x.__array_interface__["data"][0]
        return address
