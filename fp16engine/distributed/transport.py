"""How bytes come from one rank to another: one primitive, on which every exchange is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import PeerLost

Array = Any
Message = tuple[int, Array]  # a rank, and what goes to it or comes from it

STEP, GRADIENTS = 0, 1  # channels: of the thread that trains, and of the thread that exchanges gradients
CHANNELS = (STEP, GRADIENTS)
HOST = "cpu"  # the device of what goes through the host
HOST_DEVICES = ("cpu", "reference")  # their arrays are NumPy's, and calls from several threads are safe
LIMIT = 300.0  # seconds


class Transport(Protocol):
    """Point-to-point messages between the ranks of a run.

    name: "mpi" or "nccl"; limit: seconds for which a message may wait.
    """

    name: str
    rank: int
    size: int
    limit: float

    def swap(self, channel: int, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """Send and receive C-contiguous arrays, all at once; back when all are through.

        Messages between two ranks on a channel arrive in order. Raises PeerLost, which names the ranks.
        """

    def carries(self, device: str) -> bool:
        """Whether arrays of a device travel as they are; all carry those of the host."""

    @property
    def local_size(self) -> int:
        """How many of the ranks are on this machine."""

    def leave(self) -> bool:
        """Say that this rank ends, and wait a moment; whether all others end, too."""

    def abort(self) -> None:
        """End all ranks."""


def gathered(transport: Transport, own: np.ndarray, channel: int = STEP) -> list[np.ndarray]:
    """Return every rank's array, by rank; all have the same shape and dtype."""
    own = np.ascontiguousarray(own)
    found = [own if rank == transport.rank else np.empty_like(own) for rank in range(transport.size)]
    others = [rank for rank in range(transport.size) if rank != transport.rank]
    transport.swap(channel, [(rank, own) for rank in others], [(rank, found[rank]) for rank in others])
    return found


def gathered_bytes(transport: Transport, own: bytes) -> list[bytes]:
    """Return every rank's bytes, by rank."""
    sizes = [int(size[0]) for size in gathered(transport, np.array([len(own)], np.int64))]
    mine = np.frombuffer(own, np.uint8)
    others = [rank for rank in range(transport.size) if rank != transport.rank]
    found = [mine if rank == transport.rank else np.empty(size, np.uint8) for rank, size in enumerate(sizes)]
    transport.swap(STEP, [(rank, mine) for rank in others], [(rank, found[rank]) for rank in others])
    return [array.tobytes() for array in found]


def lost(ranks: Sequence[str], why: str) -> PeerLost:
    """Return the error that names ranks which do not answer."""
    plural = "s" if len(ranks) > 1 else ""
    return PeerLost(f"rank{plural} {', '.join(ranks)} {why}; continue with --resume (in Python: resume=True)")
