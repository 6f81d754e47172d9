"""`Trainer(distributed=True)`: what the ranks of a run do together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UnsupportedPrecision
from ..precision import Precision
from ..tensor import Tensor
from ..validate import choice, flag, shown
from . import group
from .exchange import ExchangedSum, Exchanger
from .parallel import OneProcess, Parallel
from .reduce import REDUCE
from .transport import Transport, gathered, gathered_bytes


class DataParallel:
    """The `Parallel` of a run of several ranks.

    Attributes:
        transport: to the other ranks.
        reduce: how gradients are averaged, one of `REDUCE`.
        sync_norm: whether batch norms take the statistics of all ranks' micro-batches.
        exchanger: the thread that exchanges gradients.
        present: the ranks that take a micro-batch at the same time as this one.
    """

    def __init__(self, transport: Transport, reduce: str, sync_norm: bool) -> None:
        self.transport, self.reduce, self.sync_norm = transport, reduce, sync_norm
        self.rank, self.size = transport.rank, transport.size
        self.exchanger = Exchanger(transport, reduce)
        self.present = range(self.size)

    def begin(self, index: int, count: int) -> None:
        """See `Parallel.begin`."""
        self.present = range(min(self.size, count - index // self.size * self.size))

    def own(self, count: int) -> range:
        """See `Parallel.own`."""
        return range(self.rank, count, self.size)

    def interleaved(self, rows: np.ndarray, count: int | None = None) -> np.ndarray:
        """See `Parallel.interleaved`."""
        if count is None:
            count = sum(int(own[0]) for own in gathered(self.transport, np.array([len(rows)])))
        padded = np.zeros((-(-count // self.size), rows.shape[1]))
        padded[: len(rows)] = rows
        return np.stack(gathered(self.transport, padded), axis=1).reshape(-1, rows.shape[1])[:count]

    def gradient_sum(self, parameters: Sequence[Tensor], count: int) -> ExchangedSum:
        """See `Parallel.gradient_sum`."""
        return ExchangedSum(self.exchanger, parameters, count)

    def agreed(self, words: str | None) -> str | None:
        """See `Parallel.agreed`."""
        if not any(flagged[0] for flagged in gathered(self.transport, np.array([words is not None]))):
            return None
        said = [text.decode() for text in gathered_bytes(self.transport, (words or "").encode())]
        return next(text for text in said if text)

    def require_same(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError, on every rank, naming all settings that differ between the ranks.

        settings: JSON values by name.
        """
        own = {name: json.dumps(value, sort_keys=True) for name, value in _flat(settings)}
        digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).digest()
        digests = gathered(self.transport, np.frombuffer(digest, np.uint8))
        if all(other.tobytes() == digest for other in digests):
            return  # on all ranks alike, since each has all digests
        found = [json.loads(text) for text in gathered_bytes(self.transport, json.dumps(own).encode())]
        differs: dict[str, int] = {}  # the first rank with another value than rank 0
        for rank, other in enumerate(found):
            for name in {**found[0], **other}:
                if found[0].get(name) != other.get(name):
                    differs.setdefault(name, rank)
        name, rank = next(iter(differs.items()))
        ours, theirs = (shown(json.loads(found[r].get(name, "null"))) for r in (0, rank))
        which = f"{name} " if len(differs) > 1 else ""
        raise ValueError(
            f"{', '.join(differs)} must be the same on all ranks, got {which}{ours} on rank 0 and {theirs} "
            f"on rank {rank}"
        )

    def record(self) -> dict[str, Any]:
        """What results and checkpoints say of it."""
        return {
            "ranks": self.size,
            "reduce": self.reduce,
            "sync_norm": self.sync_norm,
            "transport": self.transport.name,
        }

    def __str__(self) -> str:
        norms = "synchronised" if self.sync_norm else "of each micro-batch"
        return f"{self.size} ranks by {self.transport.name}, reduce: {self.reduce}, norm statistics {norms}"


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of nested mappings by their full names, optimizer.lr say."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def data_parallel(
    distributed: bool, sync_norm: bool, reduce: str, precision: Precision, on_nonfinite: str
) -> Parallel:
    """Return what a trainer's arguments ask for: the run's ranks, or one process.

    Raises:
        ValueError: an argument is out of range, or does not go with the others.
        UnsupportedPrecision: the precision adds up in binary16, and `sync_norm` in FP32; or `reduce` is
            ring-fp16, and gradients are not.
    """
    choice("reduce", reduce, REDUCE)
    flag("distributed", distributed)
    if flag("sync_norm", sync_norm) and not distributed:
        raise ValueError("sync_norm must be False without distributed, got True")
    if not distributed:
        return OneProcess()
    group.init()
    transport = group.transport()
    if reduce == "ring-fp16" and precision.storage != "float16":
        raise UnsupportedPrecision(
            f"reduce must not be ring-fp16 with {precision.storage} gradients ({precision.name})"
        )
    if sync_norm and precision.accumulate != "float32":
        raise UnsupportedPrecision(
            f"sync_norm must be False with {precision.name}, whose sums are {precision.accumulate}, got True"
        )
    if sync_norm and on_nonfinite == "explain":
        raise ValueError("on_nonfinite must not be explain with sync_norm, whose layers wait for all ranks")
    return OneProcess() if transport is None else DataParallel(transport, reduce, sync_norm)
