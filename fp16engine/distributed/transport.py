"""How bytes come from one rank to another: one primitive, on which every exchange is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import PeerLost

if TYPE_CHECKING:
    from .peers import Peers

Array = Any
Message = tuple[int, Array]  # a rank, and what goes to it or comes from it

STEP, GRADIENTS = 0, 1  # channels: of the thread that trains, and of the thread that exchanges gradients
CHANNELS = (STEP, GRADIENTS)
HOST = "cpu"  # the device of what goes through the host
HOST_DEVICES = ("cpu", "reference")  # their arrays are NumPy's, and calls from several threads are safe
LIMIT = 300.0  # seconds
LEAVING = 2.0  # seconds for which the others may take to leave, too


class Messages(Protocol):
    """Point-to-point messages between the ranks of a run."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many ranks there are."""

    def swap(self, channel: int, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """Send and receive C-contiguous arrays, all at once; back when all are through.

        Messages between two ranks on a channel arrive in order. Raises PeerLost, which names the ranks.
        """


class Transport(Messages, Protocol):
    """Messages with arrays of the host, and how ranks end.

    name: "mpi" or "nccl"; limit: seconds for which a message may wait; peers: the ranks' processes.
    """

    name: str
    limit: float
    peers: Peers

    def for_device(self, device: str) -> Messages | None:
        """Return what carries a device's arrays as they are; None where they go through the host.

        All ranks call.
        """

    def leave(self) -> bool:
        """Say that this rank ends, and wait a moment; whether all others end, too."""

    def abort(self) -> None:
        """End all ranks."""


def gathered(transport: Messages, own: np.ndarray, channel: int = STEP) -> list[np.ndarray]:
    """Return every rank's array, by rank; all have the same shape and dtype."""
    own = np.ascontiguousarray(own)
    found = [own if rank == transport.rank else np.empty_like(own) for rank in range(transport.size)]
    others = [rank for rank in range(transport.size) if rank != transport.rank]
    transport.swap(channel, [(rank, own) for rank in others], [(rank, found[rank]) for rank in others])
    return found


def gathered_bytes(transport: Messages, own: bytes) -> list[bytes]:
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


def flat_bytes(array: np.ndarray) -> np.ndarray:
    """A flat view of the bytes of a C-contiguous array of any dtype."""
    return array.reshape(-1).view(np.uint8)
