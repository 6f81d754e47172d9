"""Bytes of the NumPy arrays alive, for backends without a pool that knows."""

from __future__ import annotations

import threading
import weakref

import numpy as np


class CountedArrays:
    """Counts the memory under arrays from `_count_array` until their last view is gone."""

    def __init__(self) -> None:
        self._alive: dict[int, tuple[weakref.ref[np.ndarray], int]] = {}
        self._current = self._peak = 0
        self._lock = threading.RLock()  # an array may end while this thread counts another

    def memory(self) -> dict[str, int]:
        return {"current": self._current, "peak": self._peak, "scratch": 0}

    def reset_peak(self) -> None:
        self._peak = self._current

    def _count_array(self, y: np.ndarray) -> None:
        while isinstance(y.base, np.ndarray):  # the owner of the memory outlives every view of it
            y = y.base
        key = id(y)
        with self._lock:
            if key not in self._alive:
                self._alive[key] = weakref.ref(y, lambda _: self._forget(key)), y.nbytes
                self._current += y.nbytes
                self._peak = max(self._peak, self._current)

    def _forget(self, key: int) -> None:
        with self._lock:
            self._current -= self._alive.pop(key)[1]
