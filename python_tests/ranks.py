"""Ranks for tests: threads with a transport of their own, or processes that mpiexec starts."""

from __future__ import annotations

import importlib.util
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fp16engine
from fp16engine.distributed.peers import Peers
from fp16engine.distributed.transport import CHANNELS, HOST_DEVICES, Message, lost

_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
MPIEXEC = shutil.which("mpiexec", path=_PATH)
MISSING = (
    "needs mpi4py: pip install 'fp16engine[mpi]'"
    if importlib.util.find_spec("mpi4py") is None
    else "needs mpiexec: pip install mpich"
    if MPIEXEC is None
    else ""
)
SECONDS = 120


class ThreadTransport:
    """Ranks that are threads: every message is copied into a queue of its own."""

    name = "threads"

    def __init__(self, rank: int, size: int, queues: dict[tuple[int, int, int], Any], limit: float) -> None:
        self.rank, self.size, self.limit, self._queues = rank, size, limit, queues
        self.peers, self.sent = Peers(rank, [None] * size), 0

    @staticmethod
    def queues_of(size: int) -> dict[tuple[int, int, int], Any]:
        """By channel, sender and receiver."""
        return {(c, a, b): queue.Queue() for c in CHANNELS for a in range(size) for b in range(size)}

    def swap(self, channel: int, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        for rank, array in sends:
            self._queues[channel, self.rank, rank].put(array.copy())
            self.sent += array.nbytes
        for rank, array in receives:
            try:
                array[...] = self._queues[channel, rank, self.rank].get(timeout=self.limit)
            except queue.Empty:
                raise lost([str(rank)], f"did not answer within {self.limit:g} s") from None

    def for_device(self, device: str) -> ThreadTransport | None:
        return self if device in HOST_DEVICES else None

    def leave(self) -> bool:
        return True

    def abort(self) -> None:
        raise AssertionError("a rank ended the others")


def on_threads(size: int, work: Callable[[ThreadTransport], Any], limit: float = 60) -> list[Any]:
    """Return what `work` returns on each rank; raises the error of the lowest rank that has one."""
    queues = ThreadTransport.queues_of(size)
    results: list[Any] = [None] * size
    errors: dict[int, BaseException] = {}

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadTransport(rank, size, queues, limit))
        except BaseException as error:
            errors[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "a rank hangs"
    if errors:
        raise errors[min(errors)]
    return results


def command(size: int, *arguments: object) -> list[str]:
    """The command line that starts `size` ranks of Python with these arguments."""
    assert MPIEXEC is not None
    return [MPIEXEC, "-n", str(size), sys.executable, *map(str, arguments)]


def environment() -> dict[str, str]:
    """What the ranks see: this package, and one thread each."""
    here = [str(Path(fp16engine.__file__).parent.parent), str(Path(__file__).parent)]
    path = os.pathsep.join([*here, os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def mpiexec(size: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `size` ranks of Python to their end."""
    return subprocess.run(
        command(size, *arguments), env=environment(), capture_output=True, text=True, timeout=SECONDS
    )


def gradients(count: int, length: int, seed: int = 0) -> np.ndarray:
    """Numbers like gradients, (count, length), float16: of very different sizes, some of them 0."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, length)) * 10.0 ** rng.uniform(-5, 2, length)
    values[rng.random((count, length)) < 0.05] = 0
    return values.astype(np.float16)
