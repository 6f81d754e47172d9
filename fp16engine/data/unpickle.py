"""Reading pickled dictionaries of byte arrays without running anything that a pickle asks for.

A pickle is a program; this is its machine, for the commands that dictionaries of arrays consist of. It calls
nothing but what `_ANSWERS` lists, hashes only text and never compares or prints what it builds, so that
neither depth nor entries that share parts (2^n leaves from n commands) cost anything. Format: the standard
library's pickletools.
"""

from __future__ import annotations

import io
import math
from textwrap import shorten
from typing import Any

import numpy as np

from ..errors import DataError

_CODES = {"u1": np.uint8, "i8": np.int64, "i4": np.int32}
_MOST = 1 << 19  # commands; CIFAR-100's largest file needs about 200 000
_LONGEST = 1 << 10  # bytes of a name
_UNICODE = (b"X", b"\x8d")  # commands that are followed by a length of 4 or 8 bytes and text
_LONGEST_UNICODE = 40 << 20  # bytes


def _text(value: Any) -> str:
    if not isinstance(value, (bytes, str)) or len(value) > _LONGEST:
        raise ValueError(f"{type(value).__name__} where a short text is expected")
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


class _DType:
    """A fake numpy.dtype; hostile state given to the real one could corrupt memory."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        self.code = _text(code)
        if self.code not in _CODES:
            raise ValueError(f"array of dtype {self.code!r}")
        self.big_endian = False

    def set(self, state: tuple[Any, ...]) -> None:
        self.big_endian = _text(state[1]) == ">"

    def array(self, raw: Any, shape: Any, fortran: bool) -> np.ndarray:
        dtype = np.dtype(_CODES[self.code]).newbyteorder(">" if self.big_endian else "<")
        if not isinstance(raw, (bytes, bytearray)):
            raise ValueError(f"array bytes of type {type(raw).__name__}")
        if not isinstance(shape, tuple) or len(shape) > 4 or not all(map(_is_size, shape)):
            raise ValueError("array whose shape is no tuple of up to 4 sizes")
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{len(raw)} bytes for an array of shape {shape}")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


class _Array:
    """A fake numpy.ndarray; becomes a real array only when sizes fit."""

    value: np.ndarray | None = None

    def set(self, state: tuple[Any, ...]) -> None:
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


_MARK = object()
_IGNORED = frozenset({"PROTO", "FRAME"})
_TEXT8 = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING"})  # Python 2's text, which is bytes
_NUMBERS = frozenset({"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"})
_VALUES = _NUMBERS | {
    "BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "BYTEARRAY8",
    "UNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEEP = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_GET = frozenset({"GET", "BINGET", "LONG_BINGET"})


class _Commands(io.BytesIO):
    """A pickle's bytes; long text is refused before it is decoded, which may take eight times its bytes."""

    _last = b""

    def read(self, size: int | None = -1, /) -> bytes:
        if self._last in _UNICODE and size is not None and size > _LONGEST_UNICODE:
            raise ValueError(f"text of {size} bytes")
        data = super().read(size)
        self._last = data if size == 1 else b"" if size not in (4, 8) else self._last
        return data


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left = 0  # bytes of text that calls may still take

    def run(self, data: bytes) -> Any:
        from pickletools import genops

        self.left = len(data)
        for number, (command, argument, _) in enumerate(genops(_Commands(data))):
            if number == _MOST:
                raise ValueError(f"more than {_MOST} commands")
            if command.name == "STOP":
                return self.stack.pop()
            self._step(command.name, argument)
        raise ValueError("no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _IGNORED:
            pass
        elif name in _KEEP:
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name == "POP":
            stack.pop()
        elif name in _GET:
            stack.append(self.memo[argument])
        elif name in _TEXT8:
            stack.append(argument.encode("latin-1"))
        elif name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _SHORT_TUPLES:
            count = _SHORT_TUPLES[name]
            if len(stack) < count:
                raise ValueError("stack underflow")
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "MARK":
            stack.append(_MARK)
        else:
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name == "LIST":
            stack.append(self._to_mark())
        elif name == "DICT":
            stack.append(self._entries(self._to_mark()))
        elif name in ("APPEND", "APPENDS"):
            values = [stack.pop()] if name == "APPEND" else self._to_mark()
            self._top(list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._to_mark()
            self._top(dict).update(self._entries(values))
        elif name == "GLOBAL":
            stack.append(self._answer(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = _text(stack.pop()), _text(stack.pop())
            stack.append(self._answer(module, attribute))
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            if not any(called is answer for answer in _ANSWERS.values()) or not isinstance(arguments, tuple):
                raise ValueError(f"a call of a {type(called).__name__}")
            self._spend(arguments)
            stack.append(called(*arguments))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], (_Array, _DType)) or not isinstance(state, tuple):
                raise ValueError(f"state given to a {type(stack[-1]).__name__}")
            stack[-1].set(state)
        else:
            raise _Refused(f"the command {name}")

    def _spend(self, arguments: tuple[Any, ...]) -> None:
        """Text can be kept and encoded again and again: together no more than the pickle has bytes."""
        if len(arguments) > 8:
            raise ValueError(f"a call with {len(arguments)} arguments")
        self.left -= sum(len(argument) for argument in arguments if isinstance(argument, str))
        if self.left < 0:
            raise ValueError("the same text encoded again and again")

    def _to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:  # IndexError without one, as for an empty stack
            at -= 1
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"a {type(self.stack[-1]).__name__} where a {kind.__name__} is expected")
        return self.stack[-1]

    def _entries(self, values: list[Any]) -> dict[str, Any]:
        return {_text(key): value for key, value in zip(values[::2], values[1::2], strict=True)}

    def _answer(self, module: str, name: str) -> Any:
        try:
            return _ANSWERS[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}"[:_LONGEST]) from None


def read_dict(data: bytes, name: str) -> dict[str, Any]:
    """Return a pickled dictionary, keys as text, whose values are arrays, numbers, text or lists.

    Only our own fakes are ever called, so a pickle can neither run code nor make NumPy read where it
    should not. CIFAR's files were written by Python 2: its text comes back as bytes.

    Args:
        data: the whole pickle.
        name: what errors call it.

    Raises:
        DataError: the pickle names anything but NumPy arrays, is damaged, or holds no dictionary.
    """
    try:
        value = _Machine().run(data)
    except _Refused as error:
        raise DataError(f"{name} must be a pickle of plain NumPy arrays, got {error}") from None
    except Exception as error:  # untrusted bytes can make the machine raise nearly anything
        text = shorten(str(error) or type(error).__name__, 200)
        raise DataError(
            f"{name} must be a pickle of arrays, got one that is truncated or damaged ({text})"
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{name} must be a pickled dictionary, got {type(value).__name__}")
    return {key: entry.value if isinstance(entry, _Array) else entry for key, entry in value.items()}
