"""The floating-point types that arrays are stored in, by name, and their limits.

NumPy has no bfloat16; the package ml_dtypes adds it, and is imported by whoever asks for it first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .errors import BackendUnavailable

SIXTEEN_BIT = ("float16", "bfloat16")
FLOATS = (*SIXTEEN_BIT, "float32", "float64")


@lru_cache(maxsize=64)
def dtype_name(dtype: Any) -> str:
    """Return the name of a NumPy dtype, or of another library's that has NumPy's names."""
    return str(dtype)


def is_sixteen_bit(dtype: Any) -> bool:
    """Tell whether a dtype, or the name of one, is float16 or bfloat16."""
    return dtype_name(dtype) in SIXTEEN_BIT


def is_float(dtype: Any) -> bool:
    """Tell whether a dtype, or the name of one, is a floating-point type of the engine's.

    >>> is_float("bfloat16"), is_float(np.dtype("int64"))
    (True, False)
    """
    return dtype_name(dtype) in FLOATS


@lru_cache(maxsize=64)
def numpy_dtype(name: str) -> np.dtype:
    """Return NumPy's dtype of a name; "bfloat16" is known to NumPy itself from here on.

    Raises:
        BackendUnavailable: bfloat16 needs a package that is not there.

    >>> numpy_dtype("float16")
    dtype('float16')
    """
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ImportError as error:
            raise BackendUnavailable(
                "bfloat16 needs the package ml_dtypes; pip install 'fp16engine[bf16]'"
            ) from error
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def rounded(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Return x in a floating-point dtype, rounded once, to nearest even; beyond its range, inf.

    >>> rounded(np.array([2049.0, 1e5]), "float16").tolist()
    [2048.0, inf]
    """
    target = numpy_dtype(dtype_name(dtype))
    with np.errstate(all="ignore"):
        if x.dtype == np.float64 and target.name == "bfloat16":
            x = _to_odd(x)  # ml_dtypes rounds to float32 first, which must not become a tie
        return np.asarray(x).astype(target, copy=False)


def _to_odd(x: np.ndarray) -> np.ndarray:
    """Return float64 values in float32; those that are not exact have an odd last digit, on the side of x."""
    near = np.asarray(x, np.float32)
    bits = near.view(np.int32)
    moved = (near != x) & np.isfinite(near) & (bits & 1 == 0)
    return (
        (bits + np.where(moved, np.where(np.abs(x) > np.abs(near), 1, -1), 0))
        .astype(np.int32)
        .view(np.float32)
    )


@lru_cache(maxsize=64)
def limits(dtype: Any) -> Any:
    """Return eps, max, tiny, smallest_subnormal and bits of a floating-point type, as `np.finfo` has them.

    >>> float(limits("float16").max), float(limits("float32").eps) == 2.0**-23
    (65504.0, True)
    """
    found = numpy_dtype(dtype_name(dtype))
    if found.name != "bfloat16":
        return np.finfo(found)
    import ml_dtypes

    return ml_dtypes.finfo(found)
