"""What a device brings along, and all that the operations know of it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ...errors import UnsupportedPrecision
from ..base import Array, Shape

DTYPES = {name: np.dtype(name) for name in ("float16", "float32", "uint8", "int32", "int64")}


class Device:
    """A compiled module and the arrays it works on."""

    native: ModuleType  # the operations
    products: Any  # matrix products and convolutions: a module, or StrictProducts
    xp: ModuleType  # the array library: numpy or one with its names

    def empty(self, shape: Shape, dtype: str | np.dtype) -> Array:
        raise NotImplementedError

    def _empty_like(self, x: Array) -> Array:
        return self.empty(x.shape, x.dtype)

    @staticmethod
    def half_accumulator(acc: str, x: Array) -> bool:
        """True for binary16 accumulators; they need binary16 operands."""
        if acc == "float32":
            return False
        if x.dtype != np.float16:
            raise UnsupportedPrecision(
                f"accumulate: {acc} accumulators with {x.dtype} tensors given, float16 tensors are wanted"
            )
        return True
