"""The ranks of this run: who we are, how many, and the mean of arrays over all."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import BackendUnavailable
from ..validate import choice, instance, listed, must_be, number, one_of
from . import launcher
from . import reduce as reductions
from .leaving import watch_uncaught
from .nccl import NCCLTransport
from .reduce import REDUCE
from .sockets import SocketTransport
from .transport import LIMIT, STEP, Transport, gathered_bytes

TRANSPORTS = ("auto", "mpi", "nccl")
EXCHANGED = ("float16", "bfloat16", "float32")
_current: Transport | None = None


def init(transport: str = "auto", limit: float = LIMIT) -> None:
    """Join the other ranks of this run; a second call changes nothing.

    Args:
        transport: "mpi" (mpi4py; arrays go through the host); "nccl" (those of a GPU go by NCCL, what little
            is left by MPI, or through rank 0 where torchrun or srun started the processes without one); or
            "auto": mpi where a launcher of MPI started the process, nccl where torchrun did, else none.
        limit: seconds for which a rank may leave the others waiting before it counts as lost.

    A process that no launcher started is a run of size 1, and needs neither.

    Raises:
        ValueError: an argument is out of range.
        BackendUnavailable: the transport is not installed.

    >>> import fp16engine as fe
    >>> fe.distributed.init()
    >>> fe.distributed.rank(), fe.distributed.size()
    (0, 1)
    """
    global _current
    choice("transport", transport, TRANSPORTS)
    number("limit", limit, above=0)
    if _current is None:
        _current = _joined(transport, limit)
        if _current is not None and _current.size > 1:
            watch_uncaught(_current)


def _joined(transport: str, limit: float) -> Transport | None:
    """The transport that was asked for; None where no launcher started this process."""
    by_mpi = launcher.by_mpi()
    usable = importlib.util.find_spec("mpi4py") is not None
    place = None if transport == "mpi" or (by_mpi and usable) else launcher.place()
    if place is not None:
        return NCCLTransport(SocketTransport(place, limit))
    if by_mpi and not usable:
        raise BackendUnavailable(
            "this process is one of several that a launcher of MPI started, and needs mpi4py: "
            "pip install 'fp16engine[mpi]'"
        )
    if not by_mpi and transport != "mpi":
        return None
    from .mpi import MPITransport

    made = MPITransport(limit)
    return NCCLTransport(made) if transport == "nccl" and made.size > 1 else made


def reached() -> Transport | None:
    """The transport to the other ranks, which it joins to tell them of an error; None where it cannot."""
    try:
        init()
    except BackendUnavailable:
        return None
    return transport()


def transport() -> Transport | None:
    """The transport to the other ranks; None for a run of size 1.

    >>> transport() is None
    True
    """
    return None if _current is None or _current.size == 1 else _current


def said_by_rank_0(words: str) -> str:
    """Return the words of rank 0, on every rank.

    >>> said_by_rank_0("runs/one")
    'runs/one'
    """
    joined = transport()
    return words if joined is None else gathered_bytes(joined, words.encode())[0].decode()


def rank() -> int:
    """Return the number of this process among the ranks, from 0.

    >>> rank()
    0
    """
    return 0 if _current is None else _current.rank


def size() -> int:
    """Return the number of ranks, 1 before `init`.

    >>> size()
    1
    """
    return 1 if _current is None else _current.size


def all_reduce(arrays: Sequence[np.ndarray], reduce: str = "one-rounding") -> list[np.ndarray]:
    """Return the mean of each array over the ranks, the same bits on all.

        y = fl(sum(x of rank 0, 1, ...) / size)

    Args:
        arrays: of any shape, float16, bfloat16 or float32, the same shapes and dtypes on every rank; all
            ranks call.
        reduce: "one-rounding": FP32 sums in the order of the ranks, rounded once to the dtype of the array;
            "ring-fp16": a ring that adds float16 arrays in binary16, each divided by the number of ranks
            before;
            "fp32": a ring that adds in FP32, rounded once at the end.

    Returns:
        Arrays of the same shapes and dtypes; in a run of size 1 the arrays themselves.

    Raises:
        TypeError: an array is no floating-point NumPy array.
        ValueError: there is no such `reduce`.
        PeerLost: a rank ended, or did not answer in time.

    >>> import numpy as np
    >>> all_reduce([np.float16([20000, 1])])[0].tolist()
    [20000.0, 1.0]
    """
    choice("reduce", reduce, REDUCE)
    given = [_checked(f"arrays[{i}]", a) for i, a in enumerate(listed("arrays", arrays, "a list of arrays"))]
    joined = transport()
    if joined is None:
        return given
    results = []
    for array in given:
        mean = reductions.start(reduce, joined, array.size, array.dtype.name, STEP)
        mean.add(np.ascontiguousarray(array).reshape(-1), range(joined.size))
        results.append(mean.result(joined.size).reshape(array.shape))
    return results


def _checked(name: str, array: Any) -> np.ndarray:
    checked: np.ndarray = instance(name, array, np.ndarray, "a NumPy array")
    if checked.dtype.name not in EXCHANGED:
        raise TypeError(must_be(name, one_of(EXCHANGED), checked.dtype.name))
    return checked
