"""Host values on their way to a GPU, through page-locked memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from ..base import Array

# Bytes of one copy, and of all that are under way: page-locked memory is taken from all others.
LARGEST = 64 << 20


class PinnedUploads:
    """Copies to the arrays of one GPU, in the order of its stream, for which the host does not wait.

    From page-locked memory the GPU fetches values by itself when their turn comes; from other memory the
    driver does, which may first wait for all that the stream has to do (CUDA Runtime API, API synchronization
    behavior). So values go to page-locked memory at once, which is kept until the stream was waited for by
    `synchronize`. CuPy's pool keeps the blocks; they have a few sizes only, so that it stays small. Larger
    arrays than `LARGEST`, a data set that is moved once, are left to the driver.
    """

    def __init__(self, cupy: Any, index: int, stream: Any) -> None:
        self._cuda, self._index, self._stream = cupy.cuda, index, stream
        self._pool = cupy.cuda.PinnedMemoryPool()
        self._under_way: list[Any] = []
        self._bytes = 0
        self._lock = threading.Lock()

    def copy(self, x: Array, a: np.ndarray) -> None:
        """Copy the values a, cast to the type of x, into x, which is not empty; `a` may change afterwards."""
        values = np.asarray(a, x.dtype).reshape(x.shape)
        if x.nbytes > LARGEST:
            x.set(np.ascontiguousarray(values), stream=self._stream)
            return
        nbytes = 1 << (x.nbytes - 1).bit_length()
        if self._bytes + nbytes > LARGEST:
            self.synchronize()
        with self._cuda.Device(self._index):
            memory = self._pool.malloc(nbytes)
        staged = np.frombuffer(memory, x.dtype, x.size).reshape(x.shape)
        staged[...] = values
        x.set(staged, stream=self._stream)
        with self._lock:  # only now: whoever takes the list then waits for this copy, too
            self._under_way.append(memory)
            self._bytes += nbytes

    def synchronize(self) -> None:
        """Wait for the stream, and let go of what was copied from."""
        with self._lock:
            done, self._under_way, self._bytes = self._under_way, [], 0
        self._stream.synchronize()
        del done
