"""What a device brings along, and all that the operations know of it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ...errors import UnsupportedPrecision
from ...precision import NO_TF32, chunk_terms
from ..base import Array, Shape
from ..capabilities import Capabilities


class Device:
    """A compiled module and the arrays it works on."""

    native: ModuleType  # the operations
    gemm: Any  # matrix products and convolutions: a module, or StrictGemm
    xp: ModuleType  # the array library: numpy or one with its names
    capabilities = Capabilities()
    recording = False  # whether a step is being recorded: nothing runs, and no value goes to or from the host

    def empty(self, shape: Shape, dtype: str | np.dtype) -> Array:
        raise NotImplementedError

    def _empty_like(self, x: Array) -> Array:
        return self.empty(x.shape, x.dtype)

    def from_numpy(self, a: np.ndarray) -> Array:
        raise NotImplementedError

    def to_numpy(self, x: Array) -> np.ndarray:
        raise NotImplementedError

    @staticmethod
    def address(x: Array) -> int:
        """Where an array's first element lies."""
        raise NotImplementedError

    def compute(self, acc: str, x: Array) -> tuple[int, ...]:
        """How `gemm` is told what to compute in: the accumulator, and what else the device asks."""
        return (self.dot_accumulator(acc, x),)

    def half_accumulator(self, acc: str, x: Array) -> bool:
        """True for binary16 accumulators; they need binary16 operands. Chunks are for dot products alone."""
        return self.dot_accumulator(acc, x) == 1

    def dot_accumulator(self, acc: str, x: Array) -> int:
        """The accumulator as compiled dot products take it: 0 float32, 1 binary16, n > 1 chunks of n."""
        if acc == "float32" or (acc == "tf32" and self.capabilities.tf32):
            return 0
        if acc == "tf32":
            raise UnsupportedPrecision(NO_TF32)
        if x.dtype != np.float16:
            raise UnsupportedPrecision(f"accumulate must be float32 for {x.dtype} tensors, got {acc!r}")
        return chunk_terms(acc) or 1
