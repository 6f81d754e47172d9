"""Messages of the host for ranks that torchrun or srun started, without an MPI: through rank 0.

Rank 0 listens on MASTER_ADDR alone until all ranks are there, and passes on what goes from one other rank to
another. For the few small messages of a step; gradients of a GPU go by NCCL. As with PyTorch's own store,
whoever reaches that address at the start can take a rank's place: use a network that you trust.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from ..errors import BackendUnavailable
from .launcher import Place
from .peers import LONGEST, Peers, wait
from .transport import HOST_DEVICES, LEAVING, Message, flat_bytes, lost

_HEADER = struct.Struct("<iiiq")  # channel, sender, receiver, bytes
_HELLO, _CLOSED, _LEAVE, _ABORT = -1, -2, -3, -4  # channels
_HELLO_SECONDS, _HELLO_BYTES = 5.0, 1024
_MOST_BYTES = 1 << 31
_RETRY_SECONDS = 0.1


class SocketTransport:
    """See `Transport`; of NCCLTransport, what goes through the host."""

    name = "sockets"

    def __init__(self, place: Place, limit: float) -> None:
        self.rank, self.size, self.limit = place.rank, place.size, limit
        self._came: dict[tuple[int, int], deque[bytes]] = defaultdict(deque)  # by channel and sender
        self._closed: set[int] = set()  # ranks whose connection has ended
        self._links = _accepted(place, limit) if self.rank == 0 else {0: _connected(place, limit)}
        self._locks = {rank: threading.Lock() for rank in self._links}  # one message at a time
        for rank in self._links:
            threading.Thread(target=self._read, args=(rank,), name="fp16engine-rank", daemon=True).start()
        self.peers = Peers(self.rank, [None] * self.size)
        self.peers = Peers.of(self)

    def for_device(self, device: str) -> SocketTransport | None:
        """See `Transport.for_device`."""
        return self if device in HOST_DEVICES else None

    def swap(self, channel: int, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """See `Messages.swap`."""
        for rank, array in sends:
            if not self._send(channel, self.rank, rank, flat_bytes(array).tobytes()):
                raise self._ended(rank)
        for rank, array in receives:
            wait(partial(self._has, channel, rank), partial(list, [rank]), self.peers, self.limit)
            data = self._came[channel, rank].popleft()
            if len(data) != array.nbytes:
                raise ValueError(f"a message of rank {rank} must have {array.nbytes} bytes, got {len(data)}")
            flat_bytes(array)[:] = np.frombuffer(data, np.uint8)

    def leave(self) -> bool:
        """See `Transport.leave`: all say so to rank 0, which answers."""
        if self.rank:
            self._send(_LEAVE, self.rank, 0)
            return _soon(lambda: bool(self._came[_LEAVE, 0]))
        met = _soon(lambda: all(self._came[_LEAVE, rank] for rank in self._links))
        for rank in self._links if met else ():
            self._send(_LEAVE, 0, rank)
        return met

    def abort(self) -> None:
        """See `Transport.abort`."""
        sys.stdout.flush()
        sys.stderr.flush()
        for rank in self._links:
            self._send(_ABORT, self.rank, rank)
        os._exit(1)

    def _has(self, channel: int, rank: int) -> bool:
        closed = {0, rank} & self._closed  # seen before the messages: none can come after it
        found = bool(self._came[channel, rank])
        if closed and not found:
            raise self._ended(rank)
        return found

    def _ended(self, rank: int) -> Exception:
        return lost([self.peers.named(0 if 0 in self._closed else rank)], "ended")

    def _send(self, channel: int, sender: int, receiver: int, data: bytes = b"") -> bool:
        """Send over the link that leads to the receiver; whether it is there."""
        through = receiver if receiver in self._links else 0
        try:
            with self._locks[through]:
                _put(self._links[through], channel, sender, receiver, data)
        except OSError:
            self._closed.add(through)
            return False
        return True

    def _read(self, rank: int) -> None:
        """Take in what comes over a link until it ends."""
        with suppress(OSError, ValueError):
            while True:
                channel, sender, receiver, data = _take(self._links[rank], _MOST_BYTES)
                if channel == _ABORT:
                    for other in set(self._links) - {rank}:
                        self._send(_ABORT, sender, other)
                    os._exit(1)
                elif receiver != self.rank:
                    self._send(channel, sender, receiver, data)
                elif channel == _CLOSED:
                    self._closed.add(sender)
                else:
                    self._came[channel, sender].append(data)
        self._closed.add(rank)
        for other in set(self._links) - {rank}:
            self._send(_CLOSED, rank, other)


def _soon(done: Callable[[], bool]) -> bool:
    """Wait a moment for something; whether it happened."""
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > LEAVING:
            return False
        time.sleep(LONGEST)
    return True


def _accepted(place: Place, limit: float) -> dict[int, socket.socket]:
    """Wait, as rank 0, for all others; their links by rank."""
    links: dict[int, socket.socket] = {}
    ends = time.monotonic() + limit
    try:
        family, *_, address = socket.getaddrinfo(place.address, place.port, type=socket.SOCK_STREAM)[0]
        server = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise BackendUnavailable(f"transport 'nccl': rank 0 cannot listen on {place}: {error}") from None
    with server:
        while len(links) < place.size - 1:
            server.settimeout(max(ends - time.monotonic(), 1e-3))
            try:
                link, _ = server.accept()
            except TimeoutError:
                for link in links.values():
                    link.close()
                missing = [str(rank) for rank in range(1, place.size) if rank not in links]
                raise lost(missing, f"did not come to {place} within {limit:g} s") from None
            rank = _welcome(link, place)
            if rank is None or rank in links:
                link.close()
            else:
                links[rank] = link
    for rank, link in links.items():
        _put(link, _HELLO, 0, rank)
    return links


def _welcome(link: socket.socket, place: Place) -> int | None:
    """The rank of this run that a new link leads to, or None."""
    link.settimeout(_HELLO_SECONDS)
    with suppress(OSError, ValueError):
        channel, rank, _, data = _take(link, _HELLO_BYTES)
        if channel == _HELLO and 0 < rank < place.size and json.loads(data) == place.of_run():
            _ready(link)
            return rank
    return None


def _connected(place: Place, limit: float) -> socket.socket:
    """Come to rank 0; the link to it, once all are there."""
    ends = time.monotonic() + limit
    while True:
        try:
            link = socket.create_connection((place.address, place.port), timeout=limit)
            break
        except OSError as error:
            if time.monotonic() > ends:
                raise lost(["0"], f"does not listen on {place}: {error}") from None
            time.sleep(_RETRY_SECONDS)
    try:
        _put(link, _HELLO, place.rank, 0, json.dumps(place.of_run()).encode())
        _take(link, 0)
    except (OSError, ValueError):
        link.close()
        raise lost(["0"], f"does not take rank {place.rank} of {place.size} in, at {place}") from None
    _ready(link)
    return link


def _ready(link: socket.socket) -> None:
    link.settimeout(None)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _put(link: socket.socket, channel: int, sender: int, receiver: int, data: bytes = b"") -> None:
    link.sendall(_HEADER.pack(channel, sender, receiver, len(data)) + data)


def _take(link: socket.socket, most: int) -> tuple[int, int, int, bytes]:
    """Channel, sender, receiver and bytes of the next message; OSError where the link has ended."""
    channel, sender, receiver, count = _HEADER.unpack(_exactly(link, _HEADER.size))
    if not 0 <= count <= most:
        raise ValueError(f"a message must have at most {most} bytes, got {count}")
    return channel, sender, receiver, _exactly(link, count)


def _exactly(link: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = link.recv(min(count - len(data), 1 << 20))
        if not part:
            raise ConnectionError("the link has ended")
        data += part
    return bytes(data)
