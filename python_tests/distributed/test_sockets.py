"""Ranks without an MPI: messages through rank 0, who is missing, and where launchers put a process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fp16engine.distributed import launcher, sockets
from fp16engine.distributed.launcher import Place
from fp16engine.distributed.sockets import SocketTransport
from fp16engine.distributed.transport import GRADIENTS, STEP, gathered, gathered_bytes
from fp16engine.errors import BackendUnavailable, PeerLost

SIZE = 3


@pytest.fixture
def place() -> Place:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Place(0, SIZE, "127.0.0.1", server.getsockname()[1], "run")


def on_sockets(
    place: Place, work: Callable[[SocketTransport], Any], early: Callable[[], None] = lambda: None
) -> list[Any]:
    """What `work` returns, or the error it raises, on ranks that are threads; `early` runs after rank 0."""
    results: list[Any] = [None] * place.size
    made: list[SocketTransport] = []

    def run(rank: int) -> None:
        try:
            transport = SocketTransport(replace(place, rank=rank), limit=20.0)
            made.append(transport)
            results[rank] = work(transport)
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(place.size)]
    for thread in threads:
        thread.start()
        if thread is threads[0]:
            early()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a rank hangs"
    for transport in made:
        for link in transport._links.values():
            link.close()
    return results


def connected(place: Place) -> socket.socket:
    """A link to rank 0, which may have to be awaited."""
    for _ in range(200):
        with suppress(ConnectionRefusedError):
            return socket.create_connection((place.address, place.port), timeout=1)
        time.sleep(0.01)
    raise AssertionError("rank 0 does not listen")


def test_messages_come_in_order_on_their_channel(place: Place) -> None:
    def work(transport: SocketTransport) -> list[list[int]]:
        found = []
        others = [rank for rank in range(SIZE) if rank != transport.rank]
        for channel in (STEP, GRADIENTS):
            for number in range(3):
                own = np.full(1000, 100 * channel + 10 * transport.rank + number, np.int64)
                transport.swap(channel, [(rank, own) for rank in others], [])
        for channel in (GRADIENTS, STEP):
            for rank in others:
                came = [np.zeros(1000, np.int64) for _ in range(3)]
                transport.swap(channel, [], [(rank, array) for array in came])
                assert all((array == array[0]).all() for array in came)
                found.append([int(array[0]) - 100 * channel - 10 * rank for array in came])
        return found

    assert on_sockets(place, work) == [[[0, 1, 2]] * 2 * (SIZE - 1)] * SIZE


def test_what_is_gathered_is_the_same_on_all(place: Place) -> None:
    def work(transport: SocketTransport) -> Any:
        rows = gathered(transport, np.array([transport.rank], np.float16))
        words = gathered_bytes(transport, b"x" * transport.rank)
        return [float(row[0]) for row in rows], words, transport.peers.on_this_machine(), transport.leave()

    assert on_sockets(place, work) == [([0, 1, 2], [b"", b"x", b"xx"], [0, 1, 2], True)] * SIZE


def test_the_server_ends_when_all_are_there(place: Place) -> None:
    def work(transport: SocketTransport) -> Any:
        gathered_bytes(transport, b"")
        with pytest.raises(OSError):
            socket.create_connection((place.address, place.port), timeout=1).close()

    assert on_sockets(place, work) == [None] * SIZE


@pytest.mark.parametrize("rank", range(SIZE))
def test_a_rank_whose_connection_ends_is_named_by_all(rank: int, place: Place) -> None:
    all_joined = threading.Barrier(SIZE)

    def work(transport: SocketTransport) -> None:
        all_joined.wait(10)
        if transport.rank == rank:
            for link in transport._links.values():
                link.shutdown(socket.SHUT_RDWR)
        else:
            transport.swap(STEP, [], [(rank, np.zeros(1))])

    found = on_sockets(place, work)
    for other, error in enumerate(found):
        if other != rank:
            assert isinstance(error, PeerLost) and str(error).startswith(f"rank {rank} (process ")


def test_a_rank_that_does_not_answer_is_named_and_none_leaves_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "LEAVING", 0.2)
    met_nobody = threading.Event()

    def work(transport: SocketTransport) -> Any:
        if transport.rank == 2:
            met_nobody.wait(10)
            return None
        met = transport.leave()
        transport.limit = 0.5
        with pytest.raises(PeerLost, match=r"^rank 2 \(.*\) did not answer within 0.5 s"):
            transport.swap(STEP, [], [(2, np.zeros(1))])
        if transport.rank == 0:
            met_nobody.set()
        return met

    assert on_sockets(place, work) == [False, False, None]


def test_a_message_of_another_size_is_refused(place: Place) -> None:
    def work(transport: SocketTransport) -> None:
        if transport.rank == 1:
            transport.swap(STEP, [(0, np.zeros(2))], [])
        elif transport.rank == 0:
            transport.swap(STEP, [], [(1, np.zeros(3))])

    assert str(on_sockets(place, work)[0]) == "a message of rank 1 must have 24 bytes, got 16"


def test_strangers_are_turned_away_while_ranks_are_awaited(place: Place) -> None:
    def strangers() -> None:
        for hello in (b"GET / HTTP/1.0\r\n\r\n" + b" " * 100, b""):
            with connected(place) as link:
                link.sendall(hello)

    assert (
        on_sockets(place, lambda transport: gathered_bytes(transport, b"here"), strangers)
        == [[b"here"] * SIZE] * SIZE
    )


def test_ranks_that_do_not_come_are_named(place: Place) -> None:
    with pytest.raises(PeerLost, match=rf"^ranks 1, 2 did not come to 127.0.0.1:{place.port} within 0.2 s"):
        SocketTransport(place, 0.2)
    with pytest.raises(PeerLost, match=r"^rank 0 does not listen on 127.0.0.1"):
        SocketTransport(replace(place, rank=1), 0.2)


def test_an_address_that_is_not_this_machines_is_refused(place: Place) -> None:
    with pytest.raises(BackendUnavailable, match=r"rank 0 cannot listen on 192.0.2.1:"):
        SocketTransport(replace(place, address="192.0.2.1"), 0.2)


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "abc"}
SRUN = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_ID": "77"}
MASTER = {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({**TORCHRUN, **MASTER}, Place(1, 4, "node1", 29500, "abc")),
        (
            {**TORCHRUN, **MASTER, "TORCHELASTIC_USE_AGENT_STORE": "True"},
            Place(1, 4, "node1", 29501, "abc"),
        ),
        ({**TORCHRUN, **MASTER, "WORLD_SIZE": "1"}, None),
        ({**SRUN, **MASTER}, Place(3, 4, "node1", 29500, "77")),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", **MASTER}, None),
    ],
)
def test_a_process_knows_where_its_launcher_put_it(
    environment: dict[str, str], expected: Place | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*TORCHRUN, *SRUN, *MASTER, "TORCHELASTIC_USE_AGENT_STORE", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launcher.place() == expected


@pytest.mark.parametrize("missing", [{"MASTER_ADDR": ""}, {"MASTER_PORT": "x"}, {"MASTER_PORT": "0"}])
def test_where_rank_0_listens_must_be_said(missing: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SRUN, **MASTER, **missing}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BackendUnavailable, match="needs MASTER_ADDR and MASTER_PORT in the environment"):
        launcher.place()


@pytest.mark.parametrize(
    ("environment", "by_mpi", "among_others"),
    [
        ({}, False, False),
        ({"PMI_SIZE": "1"}, False, False),
        ({"PMI_SIZE": "2"}, True, True),
        ({"OMPI_COMM_WORLD_SIZE": "8"}, True, True),
        ({"PMIX_RANK": "0"}, True, False),
        ({"PMIX_RANK": "1"}, True, True),
        (TORCHRUN, False, True),
        (SRUN, False, False),
    ],
)
def test_launchers_are_known(
    environment: dict[str, str], by_mpi: bool, among_others: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS", "PMIX_RANK", *TORCHRUN, *SRUN):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (launcher.by_mpi(), launcher.among_others()) == (by_mpi, among_others)
