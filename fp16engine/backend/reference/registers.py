"""Loading into registers and rounding at the store."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import UnsupportedPrecision
from ...floats import dtype_name, rounded
from ...precision import chunk_terms


def load(x: np.ndarray) -> np.ndarray:
    """Return `x` as register values: float64 for float64, float32 for every other dtype."""
    return x.astype(np.float64 if x.dtype == np.float64 else np.float32, copy=False)


def store(register: Any, dtype: Any) -> np.ndarray:
    """Return fl(register) in `dtype` as a new array in C order."""
    if dtype_name(dtype) == "bfloat16":
        return np.array(rounded(np.asarray(register), dtype), order="C")
    return np.array(register, dtype=dtype, order="C")


def accumulator(x: np.ndarray, acc: str) -> np.dtype:
    """Return the dtype of the partial sums over terms made of `x`; with chunks, of the sums of theirs."""
    if x.dtype == np.float64:
        return np.dtype(np.float64)
    if acc != "float32" and x.dtype != np.float16:
        raise UnsupportedPrecision(f"accumulate must be float32 for {x.dtype} tensors, got {acc!r}")
    return np.dtype("float32" if chunk_terms(acc) else acc)
