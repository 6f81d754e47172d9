"""How a run of several ranks ends when something goes wrong on one or on all of them: with one sentence."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from .transport import Transport

TURN = 0.2  # seconds between the ranks that have something to say


@contextmanager
def together(transport: Transport | None) -> Iterator[None]:
    """Let rank 0 alone tell an error that all ranks have; a rank that has one of its own ends the others."""
    try:
        yield
    except Exception as error:
        if transport is None:
            raise
        if transport.leave():
            if transport.rank:
                sys.stderr = open(os.devnull, "w")  # noqa: SIM115  for what is left of this process
            raise
        time.sleep(TURN * transport.rank)
        print(f"fp16engine: rank {transport.rank}: {error}", file=sys.stderr)
        transport.abort()
        raise


def watch_uncaught(transport: Transport) -> None:
    """Let an error that nobody catches end the other ranks, too, which would wait for this one."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        met = transport.leave()
        if met and transport.rank:
            return
        before(kind, error, trace)
        if not met:
            transport.abort()

    sys.excepthook = hook
