"""Standard output whose errors say that it was standard output: a full disk, a reader that is gone."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


class OutputError(Exception):
    """Standard output takes no more. No OSError: argparse swallows those."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output: {error.strerror or error}")
        self.reader_gone = error.errno == errno.EPIPE


class _Output:
    """A stream that raises OutputError in place of OSError."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _named():
            written: int = self._stream.write(text)
            return written

    def flush(self) -> None:
        with _named():
            self._stream.flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(error) from error


@contextmanager
def streams() -> Iterator[None]:
    """Let what is printed go nowhere where standard output or error is closed, inside a `with` block."""
    with ExitStack() as stack:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.callback(setattr, sys, name, None)
                setattr(sys, name, nowhere)
        yield


@contextmanager
def standard_output() -> Iterator[None]:
    """Make errors of standard output OutputErrors inside a `with` block; at its end all is written."""
    stream = sys.stdout
    sys.stdout = _Output(stream)
    try:
        yield
        sys.stdout.flush()
    except OutputError:
        # what is left in the buffer must not fail again when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise
    finally:
        sys.stdout = stream
