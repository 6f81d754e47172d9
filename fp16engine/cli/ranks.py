"""`--distributed`: the command that several processes carry out together."""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

from ..validate import must_be


@contextmanager
def joined(arguments: argparse.Namespace) -> Iterator[None]:
    """Join the other ranks, if the options ask for it, and end with them if something goes wrong."""
    if not arguments.distributed:
        for option, value, plain in (
            ("--sync-norm", arguments.sync_norm, False),
            ("--reduce", arguments.reduce, "one-rounding"),
            ("--transport", arguments.transport, "auto"),
        ):
            if value != plain:
                raise ValueError(must_be(option, "given with --distributed", value))
        _refuse_others()
        yield
        return
    from ..distributed import group
    from ..distributed.leaving import together

    if arguments.transport == "nccl" and not (arguments.device or "cpu").startswith("cuda"):
        raise ValueError(must_be("--transport", "auto or mpi without --device cuda", arguments.transport))
    group.init(arguments.transport, arguments.peer_limit)
    transport = group.transport()
    with together(transport):
        if transport is not None:
            _share_machine(arguments, transport.rank, transport.peers.on_this_machine())
        yield


def _share_machine(arguments: argparse.Namespace, rank: int, here: Sequence[int]) -> None:
    """Take this rank's share of the cores, and a GPU of its own; here: the ranks on this machine."""
    if arguments.threads is None:
        arguments.threads = max(1, (os.cpu_count() or 1) // len(here))
    if arguments.device == "cuda":
        from ..backend.gpu import cuda

        arguments.device = f"cuda:{here.index(rank) % max(1, cuda.gpus())}"


def _refuse_others() -> None:
    """Raise ValueError in one of several processes of a launcher: the others would wait for it."""
    from ..distributed import group, launcher
    from ..distributed.leaving import together

    if launcher.among_others():
        with together(group.reached()):
            raise ValueError(
                "--distributed must be given where a launcher starts several processes, got none"
            )


@contextmanager
def told_once(words: Sequence[str]) -> Iterator[None]:
    """Let rank 0 alone tell what the parser says of a command line that all ranks have."""
    from ..distributed import launcher

    if "--distributed" not in words or not launcher.among_others():
        yield
        return
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            yield
    except SystemExit as exit:
        if not exit.code:
            raise
        from ..distributed import group
        from ..distributed.leaving import together

        with together(group.reached()):
            raise ValueError(said.getvalue().strip().removeprefix("fp16engine: ")) from None


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
