"""The transport by NCCL (cupy.cuda.nccl): a GPU's arrays go from GPU to GPU, those of the host another way.

It never ran on a GPU; tests run it on a fake one.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from contextvars import Context
from functools import partial
from typing import Any

from .. import backend as backends
from ..errors import BackendUnavailable
from .peers import wait
from .transport import HOST_DEVICES, Message, Messages, Transport, gathered_bytes, lost


class NCCLTransport:
    """Ranks with a GPU each; see `Transport`.

    `host` carries arrays of the host, and what NCCL has none of: who the processes are, and how they end.
    """

    name = "nccl"

    def __init__(self, host: Transport) -> None:
        self._host, self._gpus = host, dict[str, GpuMessages]()
        self.rank, self.size, self.limit, self.peers = host.rank, host.size, host.limit, host.peers
        self.swap, self.leave, self.abort = host.swap, host.leave, host.abort

    def for_device(self, device: str) -> Messages | None:
        """See `Transport.for_device`."""
        if device in HOST_DEVICES:
            return self._host
        if device.partition(":")[0] != "cuda":
            return None
        if device not in self._gpus:
            backend = Context().run(backends.get, device)  # itself, though somebody may observe this step
            self._gpus[device] = GpuMessages(self._host, backend)
        return self._gpus[device]


class GpuMessages:
    """Messages with arrays of one GPU, on a stream of their own; see `Messages`.

    One communicator and one thread at a time, so all ranks start their messages in one order, as NCCL needs.
    The host waits for them, with the limit of the ranks, so a rank that hangs is noticed.
    """

    def __init__(self, host: Transport, backend: Any) -> None:
        self.rank, self.size = host.rank, host.size
        self._host, self._backend, self._cuda = host, backend, backend.xp.cuda
        self._nccl = importlib.import_module("cupy.cuda.nccl")  # CuPy does not import it by itself
        if not self._nccl.available:
            raise BackendUnavailable(
                "transport 'nccl' needs NCCL next to CuPy: pip install nvidia-nccl-cu13; mpi goes through "
                "the host"
            )
        with self._cuda.Device(backend.index):
            self._stream = self._cuda.Stream(non_blocking=True)
            self._communicator = self._nccl.NcclCommunicator(self.size, self._run(), self.rank)

    def _run(self) -> Any:
        """What names this run to NCCL: made by rank 0 alone, since who makes one listens for the others."""
        own = self._nccl.get_unique_id() if self.rank == 0 else b""
        text = json.dumps([type(own) is bytes, list(own)])  # bytes since CuPy 14, a tuple before
        is_bytes, values = json.loads(gathered_bytes(self._host, text.encode())[0])
        return bytes(values) if is_bytes else tuple(values)

    def swap(self, channel: int, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """See `Messages.swap`; there is one channel."""
        peers = sorted({rank for rank, _ in (*sends, *receives)})
        if not peers:
            return
        try:
            with self._cuda.Device(self._backend.index):
                self._stream.wait_event(self._mark(self._backend.stream))
                self._start(sends, receives)
                come = self._mark(self._stream)
            wait(partial(self._come, come), lambda: peers, self._host.peers, self._host.limit)
        except BaseException as error:
            self._communicator.abort()  # its end would wait for the others
            if isinstance(error, self._nccl.NcclError):
                named = [self._host.peers.named(rank) for rank in peers]
                raise lost(named, f"cannot be reached by NCCL ({error})") from None
            raise

    def _start(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """Put all messages on the stream as one group, as bytes, so that no dtype is changed."""
        calls = ((self._communicator.recv, receives), (self._communicator.send, sends))
        self._nccl.groupStart()
        try:
            for call, messages in calls:
                for rank, array in messages:
                    address = self._backend.address(array)
                    call(address, int(array.nbytes), self._nccl.NCCL_UINT8, rank, self._stream.ptr)
        finally:
            self._nccl.groupEnd()

    def _mark(self, stream: Any) -> Any:
        """An event that is done when the stream comes to where it is now."""
        event = self._cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def _come(self, event: Any) -> bool:
        self._communicator.check_async_error()
        return bool(event.done)
