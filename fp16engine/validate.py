"""Checks of arguments, and the one order of their errors: `lr must be a finite number > 0, got nan`."""

from __future__ import annotations

import errno
import functools
import math
import numbers
import operator
import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from .torch_objects import full_name, is_torchs

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_AXIS = 2**31 - 1  # far beyond any image
LONGEST = 80  # characters of a value in an error


class _Shown(reprlib.Repr):
    """Writes a value without walking through all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = LONGEST
        self.maxtuple = self.maxlist = 8

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write more than 4300 digits
        return super().repr_int(x, level) if x.bit_length() < 1024 else f"an integer of {x.bit_length()} bits"


_shown = _Shown()


def shown(value: object) -> str:
    """Return a value in at most `LONGEST` characters: a class by its name, all else as `repr` writes it.

    >>> shown("cpu"), shown(dict), shown(list(range(10**6)))
    ("'cpu'", 'dict', '[0, 1, 2, 3, 4, 5, 6, 7, ...]')
    """
    if isinstance(value, type):
        return full_name(value)
    if isinstance(value, numbers.Number) and hasattr(value, "item"):  # np.float64(0.5) reads 0.5
        value = value.item()
    text = " ".join(_shown.repr(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def printable(name: str) -> str:
    """Return a text of others, a file's name say, as a terminal may show it: control characters are escaped.

    The joiners of Persian, Hindi and emoji are letters to their readers, and stay.

    >>> printable("Käse\\x1b[1m")
    'Käse\\\\x1b[1m'
    """
    return "".join(
        c if c.isprintable() or c in "\u200c\u200d" else c.encode("unicode_escape", "surrogatepass").decode()
        for c in name
    )


def must_be(name: str, valid: str, got: object) -> str:
    """Return the sentence of an error: which argument, what is valid, and what came.

    >>> must_be("lr", "a finite number > 0", float("nan"))
    'lr must be a finite number > 0, got nan'
    """
    return f"{name} must be {valid}, got {shown(got)}"


def one_of(choices: Iterable[str]) -> str:
    """Return names as an error lists them.

    >>> one_of(("native", "plain")), one_of(("sgd", "adam", "adamw"))
    ('native or plain', 'one of sgd, adam, adamw')
    """
    names = list(choices)
    return " or ".join(names) if len(names) <= 2 else f"one of {', '.join(names)}"


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
) -> float:
    """Return a finite number within the bounds as a float.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite, or out of bounds.
    """
    kind: type[Exception] = ValueError
    try:
        if isinstance(value, bool | str | bytes):  # float() takes them too
            raise TypeError
        result = float(value)
    except OverflowError:
        result = math.inf
    except (TypeError, ValueError):
        result, kind = math.nan, TypeError
    if (
        not math.isfinite(result)
        or (above is not None and result <= above)
        or (minimum is not None and result < minimum)
        or (below is not None and result >= below)
        or (maximum is not None and result > maximum)
    ):
        limits = ((">", above), (">=", minimum), ("<", below), ("<=", maximum))
        bounds = " and ".join(f"{sign} {limit:.6g}" for sign, limit in limits if limit is not None)
        if minimum is not None and maximum is not None:
            bounds = f"from {minimum:.6g} to {maximum:.6g}"
        raise kind(must_be(name, f"a finite number {bounds}".rstrip(), value))
    return result


def integer(name: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """Return an integer within the bounds, both included, as an int.

    Raises:
        TypeError: it is no integer.
        ValueError: it is out of bounds.
    """
    kind: type[Exception] = ValueError
    result = minimum - 1
    try:
        if isinstance(value, bool):
            raise TypeError
        result = operator.index(value)
    except TypeError:
        kind = TypeError
    if result < minimum or (maximum is not None and result > maximum):
        valid = f"an integer >= {minimum}" if maximum is None else f"an integer from {minimum} to {maximum}"
        raise kind(must_be(name, valid, value))
    return result


def flag(name: str, value: Any) -> bool:
    """Return True or False; TypeError for anything else."""
    if not isinstance(value, bool):
        raise TypeError(must_be(name, "True or False", value))
    return value


def choice(name: str, value: Any, choices: Iterable[str], error: type[ValueError] = ValueError) -> str:
    """Return a name that is one of `choices`; `error` for anything else."""
    names = tuple(choices)
    if not isinstance(value, str) or value not in names:
        raise error(must_be(name, one_of(names), value))
    return value


def pair(name: str, value: Any, minimum: int) -> tuple[int, int]:
    """Return (vertical, horizontal) from an integer or a pair of integers >= `minimum`.

    Raises:
        TypeError: it is neither.
        ValueError: an integer is too small.
    """
    both: Any = (value, value) if isinstance(value, numbers.Integral) else value
    if (
        not isinstance(both, Sequence)
        or len(both) != 2
        or not all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in both)
    ):
        raise TypeError(must_be(name, "an integer or a pair of integers", value))
    first, second = int(both[0]), int(both[1])
    if min(first, second) < minimum or max(first, second) > LONGEST_AXIS:
        raise ValueError(must_be(name, f">= {minimum} and <= {LONGEST_AXIS}", value))
    return first, second


def listed(name: str, value: Any, valid: str) -> list[Any]:
    """Return the elements of an iterable; TypeError for text and for anything else."""
    if isinstance(value, str | bytes | type) or not isinstance(value, Iterable):
        raise TypeError(must_be(name, valid, value))
    return list(value)


def instance(name: str, value: Any, kind: Any, valid: str) -> Any:
    """Return an instance of a class; TypeError for anything else, the class itself included."""
    if isinstance(value, type) or not isinstance(value, kind):
        named = value if isinstance(value, type) or not is_torchs(value) else type(value)
        got = f"the class {full_name(value)}" if isinstance(value, type) else shown(named)
        raise TypeError(f"{name} must be {valid}, got {got}")
    return value


def path(name: str, value: Any) -> Path:
    """Return the path of a file or folder.

    Raises:
        TypeError: it is no text and no path.
        ValueError: it is empty, or the system can have no file of this name.
    """
    try:
        text = os.fspath(value)
    except TypeError:
        text = b""
    if not isinstance(text, str):
        raise TypeError(must_be(name, "a path", value))
    if not text:
        raise ValueError(must_be(name, "a path", value))
    if "\0" in text or _too_long(text):
        raise ValueError(must_be(name, "a path that the file system takes", value))
    return Path(text)


def numpys_names(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function that takes `axis` and `keepdims` answer `dim` and `keepdim` with a hint.

    >>> numpys_names(lambda x, axis=None: x)([1], dim=0)
    Traceback (most recent call last):
    TypeError: dim must be given as axis, NumPy's name, got 0
    """

    @functools.wraps(function)
    def named(*args: P.args, **options: P.kwargs) -> T:
        for name, ours in (("dim", "axis"), ("keepdim", "keepdims")):
            if name in options:
                raise TypeError(must_be(name, f"given as {ours}, NumPy's name", options[name]))
        return function(*args, **options)

    return named


def either(op: str, **given: Any) -> Any:
    """Return the one of several names for an argument that was given; TypeError for none or two."""
    found = [value for value in given.values() if value is not None]
    if len(found) != 1:
        names = " or ".join(given)
        raise TypeError(f"{op}: {names} must be given once, got {'both' if found else 'neither'}")
    return found[0]


def _too_long(name: str) -> bool:
    """Tell whether the file system takes no such long name."""
    try:
        os.lstat(name)
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False
