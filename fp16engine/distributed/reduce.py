"""The mean of arrays over micro-batches and ranks, by the `reduce` that a run chooses.

"one-rounding": every rank sends each other rank its shard of the array (all-to-all), adds what comes in FP32
in the order of the micro-batches, divides, rounds once, and sends the result to all (all-gather): the bytes
of a ring, 2 (P - 1) / P of the array's. The error is at most half an ulp of the result and what the FP32 sum
rounds. "ring-fp16" adds binary16 numbers along a ring, as NCCL and MPI do: up to P roundings. "fp32" sends
float32 along the same ring: twice the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .transport import GRADIENTS, Transport

REDUCE = ("one-rounding", "ring-fp16", "fp32")


class Mean(Protocol):
    """The mean of one flat array over the micro-batches of a step."""

    def add(self, own: np.ndarray | None, ranks: Sequence[int]) -> None:
        """Add a round of micro-batches, one each of `ranks`; own: (L,), this rank's, or None without one."""

    def result(self, count: int) -> np.ndarray:
        """The mean of all that was added, `count` micro-batches: (L,)."""


def start(reduce: str, transport: Transport, length: int, dtype: np.dtype, channel: int = GRADIENTS) -> Mean:
    """Begin the mean of arrays (length,) of a dtype, by one of `REDUCE`."""
    if reduce == "one-rounding":
        return OneRounding(transport, length, dtype, channel)
    wire = np.dtype(np.float32) if reduce == "fp32" else dtype
    return Ring(transport, length, dtype, wire, channel)


class _Shards:
    """An array (length,) in one shard per rank, the last ones padded with zeros."""

    def __init__(self, transport: Transport, length: int, channel: int) -> None:
        self._transport, self._length, self._channel = transport, length, channel
        self._size = -(-length // transport.size)

    def _padded(self, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Shards (P, size)."""
        if values.dtype == dtype and len(values) == self._size * self._transport.size:
            return values.reshape(self._transport.size, self._size)
        padded = np.zeros(self._size * self._transport.size, dtype)
        padded[: self._length] = values
        return padded.reshape(self._transport.size, self._size)

    def _gather(self, shards: np.ndarray, owned: int, owners: Sequence[int]) -> np.ndarray:
        """Fill the shards (P, size) that others own; owners: the owner of each shard."""
        rank = self._transport.rank
        sends = [(other, shards[owned]) for other in range(self._transport.size) if other != rank]
        receives = [(owner, shards[shard]) for shard, owner in enumerate(owners) if owner != rank]
        self._transport.swap(self._channel, sends, receives)
        return shards.reshape(-1)[: self._length]


class OneRounding(_Shards):
    """An all-to-all of shards, their FP32 sum in order, one rounding, an all-gather."""

    def __init__(self, transport: Transport, length: int, dtype: np.dtype, channel: int) -> None:
        super().__init__(transport, length, channel)
        self._dtype = dtype
        self._total: np.ndarray | None = None

    def add(self, own: np.ndarray | None, ranks: Sequence[int]) -> None:
        """See `Mean.add`."""
        me, size = self._transport.rank, self._transport.size
        shards = None if own is None else self._padded(own, self._dtype)
        sends = [] if shards is None else [(rank, shards[rank]) for rank in range(size) if rank != me]
        came = {rank: np.empty(self._size, self._dtype) for rank in ranks if rank != me}
        self._transport.swap(self._channel, sends, list(came.items()))
        if shards is not None:
            came[me] = shards[me]
        with np.errstate(all="ignore"):
            for rank in ranks:
                if self._total is None:
                    self._total = came[rank].astype(np.float32)
                else:
                    np.add(self._total, came[rank], out=self._total)

    def result(self, count: int) -> np.ndarray:
        """See `Mean.result`."""
        assert self._total is not None
        rank, size = self._transport.rank, self._transport.size
        shards = np.empty((size, self._size), self._dtype)
        with np.errstate(all="ignore"):
            shards[rank] = self._total / np.float32(count)
        return self._gather(shards, rank, range(size))


class Ring(_Shards):
    """A ring that adds in the dtype of the wire, each addition rounded to it, and an all-gather.

    Where the wire is binary16, a rank divides its own sum before, so that the mean does not overflow.
    """

    def __init__(
        self, transport: Transport, length: int, dtype: np.dtype, wire: np.dtype, channel: int
    ) -> None:
        super().__init__(transport, length, channel)
        self._dtype, self._wire = dtype, wire
        self._own = np.zeros(length, np.float32)

    def add(self, own: np.ndarray | None, ranks: Sequence[int]) -> None:
        """See `Mean.add`."""
        if own is not None:
            with np.errstate(all="ignore"):
                np.add(self._own, own, out=self._own)

    def result(self, count: int) -> np.ndarray:
        """See `Mean.result`."""
        rank, size = self._transport.rank, self._transport.size
        with np.errstate(all="ignore"):
            first = self._own / np.float32(count) if self._wire == np.float16 else self._own
            shards = self._padded(first.astype(self._wire), self._wire)
            came = np.empty(self._size, self._wire)
            for step in range(size - 1):
                sent, added = (rank - step) % size, (rank - step - 1) % size
                self._transport.swap(
                    self._channel, [((rank + 1) % size, shards[sent])], [((rank - 1) % size, came)]
                )
                shards[added] = came + shards[added]
            shards = self._gathered(shards)
            if self._wire != np.float16:
                shards = shards / np.float32(count)
            return shards.astype(self._dtype)

    def _gathered(self, shards: np.ndarray) -> np.ndarray:
        rank, size = self._transport.rank, self._transport.size
        return self._gather(shards, (rank + 1) % size, [(shard - 1) % size for shard in range(size)])
