"""Ctrl-C while the command still imports ends as it does later: one line, status 130, no traceback."""

from __future__ import annotations

import itertools
import os
import signal
import sys


def _stop(number: int, frame: object) -> None:
    os.write(2, b"fp16engine: stopped\n")
    os._exit(130)


def _is_command() -> bool:
    name = sys.argv[0] if getattr(sys, "argv", None) else ""
    if name != "-m":
        return os.path.splitext(os.path.basename(name))[0] == "fp16engine"
    # until `python -m MODULE` has found its module, which may be one that imports ours, its name is "-m"
    words = sys.orig_argv
    return any(pair == ("-m", "fp16engine") for pair in itertools.pairwise(words))


def _begin() -> None:
    """Take the signal, where this process is the command and not another program that imports the package."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        try:
            signal.signal(signal.SIGINT, _stop)
        except ValueError:  # imported in a thread
            return


def end() -> None:
    """Give Ctrl-C back to Python's own handler."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_begin()
