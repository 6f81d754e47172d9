"""Reading pickled dictionaries of byte arrays without running anything that a pickle asks for."""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

from ..errors import DataError

_CODES = {"u1": np.uint8, "i8": np.int64, "i4": np.int32}


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


class _DType:
    """Stands in for numpy.dtype; hostile state given to the real one could corrupt memory."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        self.code = _text(code)
        if self.code not in _CODES:
            raise ValueError(f"array of dtype {self.code!r}")
        self.big_endian = False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.big_endian = _text(state[1]) == ">"

    def array(self, raw: Any, shape: Any, fortran: bool) -> np.ndarray:
        dtype = np.dtype(_CODES[self.code]).newbyteorder(">" if self.big_endian else "<")
        if not isinstance(raw, (bytes, bytearray)):
            raise ValueError(f"array bytes of type {type(raw).__name__}")
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{len(raw)} bytes for an array of shape {shape}")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


class _Array:
    """Stands in for numpy.ndarray; becomes a real array only when sizes fit."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = dtype.array(raw, shape, bool(fortran))


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(raw: Any, dtype: _DType, shape: Any, order: Any, *_: Any) -> _Array:
    result = _Array()
    result.value = dtype.array(raw, shape, _text(order) == "F")
    return result


def _encode(text: str, encoding: Any = "latin-1") -> bytes:
    if _text(encoding) not in ("latin1", "latin-1"):
        raise ValueError(f"text in encoding {_text(encoding)!r}")
    return text.encode("latin-1")


# What pickled arrays name, in the spelling of Python 2 and 3 and of NumPy 1 and 2; nothing else is answered.
_ANSWERS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Refused(Exception):
    """The pickle asked for something else than an array."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ANSWERS[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def read_dict(data: bytes, name: str) -> dict[str, Any]:
    """Returns a pickled dictionary, keys as text, whose values are arrays, numbers, text or lists.

    Only our own stand-ins are ever called, so a pickle can neither run code nor make NumPy read where it
    should not. CIFAR's files were written by Python 2: its text comes back as bytes.

    Args:
        data: the whole pickle.
        name: what errors call it.

    Raises:
        DataError: the pickle names anything but NumPy arrays, is damaged, or holds no dictionary.
    """
    try:
        value = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except _Refused as error:
        raise DataError(
            f"{name}: refused because it asks for {error}, plain NumPy arrays are wanted"
        ) from None
    except Exception as error:  # untrusted bytes can make the unpickler raise nearly anything
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: truncated or damaged ({text}), a pickle of arrays is wanted") from error
    if not isinstance(value, dict):
        raise DataError(f"{name}: a pickled {type(value).__name__} found, a dictionary is wanted")
    return {_text(key): entry.value if isinstance(entry, _Array) else entry for key, entry in value.items()}
