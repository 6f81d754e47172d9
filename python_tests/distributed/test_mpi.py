"""Which ranks are named where a message does not come; what mpi4py is asked for."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest

from fp16engine.distributed.mpi import MPITransport
from fp16engine.distributed.peers import Peers
from fp16engine.errors import BackendUnavailable, PeerLost
from fp16engine.reporting.owner import Owner


class Request:
    """A message that has come, or has not."""

    def __init__(self, come: bool) -> None:
        self.come = come

    def Test(self) -> bool:
        return self.come


@pytest.fixture
def transport() -> Any:
    """Rank 0 of three on this machine: rank 1 is alive, the process of rank 2 is another one by now."""
    made = MPITransport.__new__(MPITransport)
    here = Owner.this()
    made._lock, made.limit, made.rank, made.size = threading.Lock(), 2.0, 0, 3
    made.peers = Peers(0, [here, here, replace(here, started="0")])
    yield made
    here.retire()


def look(transport: Any, requests: list[tuple[int, Request]], waited: float) -> None:
    transport.peers.look(transport._missing(requests), waited, transport.limit)


def test_a_process_that_ended_is_named_at_once(transport: Any) -> None:
    with pytest.raises(PeerLost, match=rf"^rank 2 \(process {os.getpid()} on .*\) ended; continue with"):
        look(transport, [(1, Request(False)), (2, Request(False))], 0.5)


def test_ranks_that_do_not_answer_are_named_after_the_limit(transport: Any) -> None:
    waiting = [(0, Request(False)), (1, Request(False)), (2, Request(True))]
    look(transport, waiting, 1.9)
    with pytest.raises(PeerLost, match=r"^ranks 0 \(.*\), 1 \(.*\) did not answer within 2 s; continue with"):
        look(transport, waiting, 2.1)


def test_messages_that_came_name_nobody(transport: Any) -> None:
    look(transport, [(2, Request(True))], 100.0)


def test_ranks_of_this_machine_are_counted(transport: Any) -> None:
    assert transport.peers.on_this_machine() == [0, 1, 2]
    transport.peers._owners[1] = replace(transport.peers._owners[1], host="another")
    assert transport.peers.on_this_machine() == [0, 2]


def test_without_mpi4py_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'fp16engine\[mpi\]'"):
        MPITransport(1.0)
