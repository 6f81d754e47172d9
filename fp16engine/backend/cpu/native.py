"""The compiled module, and the two conversions every call needs."""

from __future__ import annotations

import numpy as np

from ...errors import BackendUnavailable, UnsupportedPrecision

try:
    from ... import _cpu as native
except ImportError as error:
    raise BackendUnavailable(
        f"the compiled CPU module fp16engine._cpu could not be loaded ({error}); "
        "reinstall with 'pip install --force-reinstall fp16engine', which brings oneDNN with it"
    ) from error

DTYPES = {name: np.dtype(name) for name in ("float16", "float32", "uint8", "int32", "int64")}


def empty(shape: tuple[int, ...], dtype: str | np.dtype) -> np.ndarray:
    """An uninitialised array of `shape` from the pool."""
    return native.empty(shape, DTYPES[dtype] if isinstance(dtype, str) else dtype)


def empty_like(x: np.ndarray) -> np.ndarray:
    return native.empty(x.shape, x.dtype)


def half_accumulator(acc: str, x: np.ndarray) -> bool:
    """True for binary16 accumulators; they need binary16 operands."""
    if acc == "float32":
        return False
    if x.dtype != np.float16:
        raise UnsupportedPrecision(
            f"accumulate: {acc} accumulators with {x.dtype} tensors given, float16 tensors are wanted"
        )
    return True
