"""The mean of arrays over micro-batches and ranks, by the `reduce` that a run chooses.

"one-rounding": every rank sends each other rank its shard of the array (all-to-all), adds what comes in FP32
in the order of the micro-batches, divides, rounds once, and sends the result to all (all-gather): the bytes
of a ring, 2 (P - 1) / P of the array's. The error is at most half an ulp of the result and what the FP32 sum
rounds. "ring-fp16" adds binary16 numbers along a ring, as NCCL and MPI do: up to P roundings. "fp32" sends
float32 along the same ring: twice the bytes.

Every sum, rounding and buffer is a call of the backend of `device`, so audits see them and its memory counts
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .. import backend as backends
from .transport import GRADIENTS, HOST, Messages

Array = Any
REDUCE = ("one-rounding", "ring-fp16", "fp32")


class Mean(Protocol):
    """The mean of one flat array over the micro-batches of a step; arrays are of one device."""

    def add(self, own: Array | None, ranks: Sequence[int]) -> None:
        """Add a round of micro-batches, one each of `ranks`; own: (L,), this rank's, or None without one."""

    def result(self, count: int) -> Array:
        """The mean of all that was added, `count` micro-batches: (L,)."""


def start(
    reduce: str, transport: Messages, length: int, dtype: str, channel: int = GRADIENTS, device: str = HOST
) -> Mean:
    """Begin the mean of arrays (length,) of a dtype on a device, by one of `REDUCE`.

    Of "ring-fp16" only float16 arrays are added in binary16; others as with "fp32".
    """
    if reduce == "one-rounding":
        return OneRounding(transport, length, dtype, channel, device)
    wire = dtype if reduce == "ring-fp16" and dtype == "float16" else "float32"
    return Ring(transport, length, dtype, wire, channel, device)


class _Shards:
    """An array (length,) in one shard per rank, the last ones padded with zeros."""

    def __init__(self, transport: Messages, length: int, dtype: str, channel: int, device: str) -> None:
        self._transport, self._length, self._channel = transport, length, channel
        self._dtype, self._device = dtype, device
        self._size = -(-length // transport.size)

    @property
    def _backend(self) -> Any:
        return backends.get(self._device)

    def _cut(self, values: Array) -> list[Array]:
        """The shards (size,) of values (L,), by number."""
        missing = self._size * self._transport.size - self._length
        if missing:
            values = self._backend.cat([values, self._backend.zeros((missing,), str(values.dtype))], 0)
        return list(values.reshape(self._transport.size, self._size))

    def _gathered(self, own: Array, shards: Sequence[int]) -> Array:
        """Join the shards that the ranks have to an array (L,); shards: which one each rank has."""
        rank, backend = self._transport.rank, self._backend
        found = [backend.empty((self._size,), str(own.dtype)) for _ in shards]
        found[shards[rank]] = own
        others = [other for other in range(self._transport.size) if other != rank]
        sends = [(other, own) for other in others]
        self._transport.swap(self._channel, sends, [(other, found[shards[other]]) for other in others])
        return backend.cat(found, 0)[: self._length]


class OneRounding(_Shards):
    """An all-to-all of shards, their FP32 sum in order, one rounding, an all-gather."""

    _total: Array | None = None

    def add(self, own: Array | None, ranks: Sequence[int]) -> None:
        """See `Mean.add`."""
        me, size = self._transport.rank, self._transport.size
        shards = None if own is None else self._cut(own)
        sends = [] if shards is None else [(rank, shards[rank]) for rank in range(size) if rank != me]
        came = {rank: self._backend.empty((self._size,), self._dtype) for rank in ranks if rank != me}
        self._transport.swap(self._channel, sends, list(came.items()))
        if shards is not None:
            came[me] = shards[me]
        for rank in ranks:
            self._total = self._backend.add_to_sum(self._total, came[rank])

    def result(self, count: int) -> Array:
        """See `Mean.result`."""
        own = self._backend.mean_of_sum(self._total, count, self._dtype)
        return self._gathered(own, range(self._transport.size))


class Ring(_Shards):
    """A ring that adds in the dtype of the wire, each addition rounded to it, and an all-gather.

    Where the wire is binary16, a rank divides its own sum before, so that the mean does not overflow.
    """

    def __init__(
        self, transport: Messages, length: int, dtype: str, wire: str, channel: int, device: str
    ) -> None:
        super().__init__(transport, length, dtype, channel, device)
        self._wire = wire
        self._own: Array | None = None

    def add(self, own: Array | None, ranks: Sequence[int]) -> None:
        """See `Mean.add`."""
        if own is not None:
            self._own = self._backend.add_to_sum(self._own, own)

    def result(self, count: int) -> Array:
        """See `Mean.result`."""
        rank, size, backend = self._transport.rank, self._transport.size, self._backend
        half = self._wire == "float16"
        own = backend.zeros((self._length,), "float32") if self._own is None else self._own
        shards = self._cut(backend.mean_of_sum(own, count, self._wire) if half else own)
        came = backend.empty((self._size,), self._wire)
        for step in range(size - 1):
            sent, added = (rank - step) % size, (rank - step - 1) % size
            sends = [((rank + 1) % size, shards[sent])]
            self._transport.swap(self._channel, sends, [((rank - 1) % size, came)])
            if half:
                shards[added] = backend.binary("add", came, shards[added])
            else:
                shards[added] = backend.add_to_sum(came, shards[added])
        owned = [(other + 1) % size for other in range(size)]
        mean = self._gathered(shards[owned[rank]], owned)
        return mean if half else backend.mean_of_sum(mean, count, self._dtype)
