"""The transport by MPI (mpi4py): messages that do not block, polled, so that a rank that hangs is noticed."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import BackendUnavailable
from ..reporting.owner import Owner
from .transport import CHANNELS, HOST_DEVICES, Message, gathered_bytes, lost

EAGER = 1e-3  # seconds without new messages before the thread sleeps between two polls
SHORTEST, LONGEST = 20e-6, 1e-3  # seconds between two polls
LOOK_EVERY = 0.5  # seconds between two looks at whether the other processes are there
LEAVING = 2.0  # seconds for which the others may take to leave, too


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
        self._owners: list[Owner | None] = [None] * self.size
        if self.size > 1:
            own = json.dumps(Owner.this().to_json()).encode()
            self._owners = [Owner.of_json(json.loads(text)) for text in gathered_bytes(self, own)]

    def swap(self, channel: int, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """See `Transport.swap`."""
        comm = self._channels[channel]
        with self._lock:
            requests = [(rank, comm.Irecv(_bytes(array), rank)) for rank, array in receives]
            requests += [(rank, comm.Isend(_bytes(array), rank)) for rank, array in sends]
        self._wait(requests)

    def _wait(self, requests: list[tuple[int, Any]]) -> None:
        pending = [request for _, request in requests]
        began = looked = time.monotonic()
        eager, pause = began + EAGER, SHORTEST
        while True:
            with self._lock:
                if self._mpi.Request.Testall(pending):
                    return
            now = time.monotonic()
            if now > eager:
                time.sleep(pause)
                pause = min(2 * pause, LONGEST)
            if now - looked >= LOOK_EVERY:
                looked = now
                self._look(requests, now - began)

    def _look(self, requests: list[tuple[int, Any]], waited: float) -> None:
        with self._lock:
            missing = sorted({rank for rank, request in requests if not request.Test()})
        gone = [rank for rank in missing if (owner := self._owners[rank]) is not None and owner.gone()]
        if gone:
            raise lost([self._named(rank) for rank in gone], "ended")
        if missing and waited > self.limit:
            raise lost([self._named(rank) for rank in missing], f"did not answer within {self.limit:g} s")

    def _named(self, rank: int) -> str:
        owner = self._owners[rank]
        return f"{rank}" if owner is None else f"{rank} (process {owner.pid} on {owner.host})"

    def carries(self, device: str) -> bool:
        """See `Transport.carries`."""
        return device in HOST_DEVICES

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
        self._mpi.COMM_WORLD.Abort(1)
        os._exit(1)  # an MPI may return here before it has ended this process

    @property
    def local_size(self) -> int:
        """See `Transport.local_size`."""
        own = self._owners[self.rank]
        return sum(owner is not None and own is not None and owner.host == own.host for owner in self._owners)


def _bytes(array: np.ndarray) -> Any:
    """A flat view of an array's bytes, as MPI takes it."""
    return array.reshape(-1).view(np.uint8)
