"""Tells what is PyTorch's, without PyTorch, so that an error can say what to use instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from types import TracebackType
from typing import Any


def is_torchs(value: object) -> bool:
    """Tell whether a value is an object, a class or a function of PyTorch, or of a class derived from one.

    >>> is_torchs(is_torchs), is_torchs(3)
    (False, False)
    """
    kind = value if isinstance(value, type) else type(value)
    return _below_torch(getattr(value, "__module__", None)) or any(
        _below_torch(base.__module__) for base in kind.__mro__
    )


def full_name(kind: type) -> str:
    """Return a class's name, with its module if it is PyTorch's, whose `Tensor` is not ours.

    >>> full_name(dict)
    'dict'
    """
    return f"{kind.__module__}.{kind.__qualname__}" if _below_torch(kind.__module__) else kind.__name__


@contextmanager
def refused_by_torch(name: str, valid: str) -> Iterator[None]:
    """Turn a TypeError that PyTorch raises at our tensors into one that says what the argument must be."""
    try:
        yield
    except TypeError as error:
        if not _raised_below_torch(error.__traceback__):
            raise
        said = shorten(str(error), 100, placeholder="...")
        raise TypeError(f"{name} must be {valid}, got one that calls PyTorch, which said: {said}") from error


def _below_torch(module: Any) -> bool:
    return isinstance(module, str) and module.split(".")[0] == "torch"


def _raised_below_torch(traceback: TracebackType | None) -> bool:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and _below_torch(traceback.tb_frame.f_globals.get("__name__"))
