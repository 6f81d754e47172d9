"""`--distributed`: the command that several processes carry out together."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..validate import must_be


@contextmanager
def joined(arguments: argparse.Namespace) -> Iterator[None]:
    """Join the other ranks, if the options ask for it, and end with them if something goes wrong."""
    if not arguments.distributed:
        for option, value, plain in (
            ("--sync-norm", arguments.sync_norm, False),
            ("--reduce", arguments.reduce, "one-rounding"),
        ):
            if value != plain:
                raise ValueError(must_be(option, "given with --distributed", value))
        yield
        return
    from ..distributed import group
    from ..distributed.leaving import together

    group.init(limit=arguments.peer_limit)
    transport = group.transport()
    if transport is not None and arguments.threads is None:
        arguments.threads = max(1, (os.cpu_count() or 1) // transport.local_size)
    with together(transport):
        yield


def first() -> bool:
    """Whether this process writes and prints: rank 0, or a process alone."""
    from ..distributed import group

    return group.rank() == 0


def said_by_the_first(words: Callable[[], str]) -> str:
    """What rank 0 finds, on every rank."""
    from ..distributed import group

    return group.said_by_rank_0(words() if first() else "")


def arguments_of_trainer(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `Trainer` about ranks."""
    return {
        "distributed": arguments.distributed,
        "sync_norm": arguments.sync_norm,
        "reduce": arguments.reduce,
    }
