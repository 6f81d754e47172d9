"""The transport by MPI (mpi4py): messages that do not block, polled, so that a rank that hangs is noticed."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..errors import BackendUnavailable
from .peers import LONGEST, Peers, wait
from .transport import CHANNELS, HOST_DEVICES, LEAVING, Message, flat_bytes

HEARD = 0.5  # seconds in which a launcher may read what was said: told to end, it drops what is left


class MPITransport:
    """Ranks of MPI_COMM_WORLD; see `Transport`.

    A lock keeps calls of MPI apart, so MPI_THREAD_SERIALIZED is enough.
    """

    name = "mpi"

    def __init__(self, limit: float) -> None:
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:  # RuntimeError: no MPI library next to mpi4py
            raise BackendUnavailable(
                f"transport 'mpi' needs mpi4py and an MPI: pip install 'fp16engine[mpi]' ({error})"
            ) from None
        if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
            raise BackendUnavailable("transport 'mpi' needs an MPI with threads, got one without")
        self._mpi, self._lock = MPI, threading.Lock()
        world = MPI.COMM_WORLD
        self.rank, self.size, self.limit = world.Get_rank(), world.Get_size(), limit
        self._channels = [world.Dup() for _ in CHANNELS] if self.size > 1 else []
        self.peers = Peers(self.rank, [None] * self.size)
        if self.size > 1:
            self.peers = Peers.of(self)

    def swap(self, channel: int, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """See `Transport.swap`."""
        comm = self._channels[channel]
        with self._lock:
            requests = [(rank, comm.Irecv(flat_bytes(array), rank)) for rank, array in receives]
            requests += [(rank, comm.Isend(flat_bytes(array), rank)) for rank, array in sends]
        pending = [request for _, request in requests]
        wait(partial(self._all, pending), partial(self._missing, requests), self.peers, self.limit)

    def _all(self, pending: list[Any]) -> bool:
        with self._lock:
            return bool(self._mpi.Request.Testall(pending))

    def _missing(self, requests: list[tuple[int, Any]]) -> list[int]:
        with self._lock:
            return sorted({rank for rank, request in requests if not request.Test()})

    def for_device(self, device: str) -> MPITransport | None:
        """See `Transport.for_device`."""
        return self if device in HOST_DEVICES else None

    def leave(self) -> bool:
        """See `Transport.leave`."""
        with self._lock:
            request = self._channels[0].Ibarrier()
        began = time.monotonic()
        while time.monotonic() - began < LEAVING:
            with self._lock:
                if request.Test():
                    return True
            time.sleep(LONGEST)
        return False

    def abort(self) -> None:
        """See `Transport.abort`."""
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(HEARD)
        self._mpi.COMM_WORLD.Abort(1)
        os._exit(1)  # an MPI may return here before it has ended this process
