"""Output that every terminal takes: what its encoding lacks is spelled, and no results are lost to it."""

from __future__ import annotations

import codecs
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_NAME = "fp16engine-spelled"
_SPELLED = {
    "δ": "delta", "Γ": "Gamma", "±": "+-", "·": "*", "…": "...", "≤": "<=", "≥": ">=", "√": "sqrt", "█": "#",
    "\u00d7": "x", "\u2212": "-", "\u2013": "-", "\u2014": "-",
}  # fmt: skip


@contextmanager
def any_terminal() -> Iterator[None]:
    """Let standard output and error spell what their encodings lack, as long as the block lasts."""
    codecs.register_error(_NAME, _spell)
    with ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            reconfigure: Any = getattr(stream, "reconfigure", None)  # not every stream has it
            if reconfigure is not None:
                stack.callback(reconfigure, errors=getattr(stream, "errors", "strict"))
                reconfigure(errors=_NAME)
        yield


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    """A character in ASCII; a byte of a file name that is no text as its hexadecimal digits."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character in _SPELLED:
        return _SPELLED[character]
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"
