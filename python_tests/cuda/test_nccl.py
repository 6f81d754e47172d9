"""The transport by NCCL, on fake GPUs of processes started as torchrun does, or by mpiexec."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu_rank_program
import pytest
import rank_program
import ranks

PROGRAM = gpu_rank_program.__file__
needs_mpi = pytest.mark.skipif(bool(ranks.MISSING), reason=ranks.MISSING)
pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def started(size: int, folder: Path, asked: dict[str, Any]) -> list[subprocess.CompletedProcess[str]]:
    """What ranks say that are started with the environment of torchrun."""
    shared = {
        **ranks.environment(),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "FAKE_NCCL": str(folder),
    }
    command = [sys.executable, PROGRAM, str(folder), "auto", json.dumps(asked)]
    running = [
        subprocess.Popen(
            command,
            env={**shared, "RANK": str(rank)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(size)
    ]
    done = []
    for process in running:
        said = process.communicate(timeout=ranks.SECONDS)
        for other in running if process.returncode else ():
            other.kill()  # as torchrun does
        done.append(subprocess.CompletedProcess(command, process.returncode, *said))
    return done


def found(folder: Path, size: int) -> dict[str, Any]:
    records = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(size)]
    assert all(record["digest"] == records[0]["digest"] for record in records)
    return records[0]


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("precision", ["fp16", "mp"])
def test_ranks_of_torchrun_have_the_bits_of_one_process(precision: str, tmp_path: Path) -> None:
    for rank in started(2, tmp_path, {"precision": precision}):
        assert rank.returncode == 0, rank.stderr
    theirs = found(tmp_path, 2)
    assert theirs["distributed"]["transport"] == "nccl" and theirs["here"] == [0, 1]
    assert theirs["digest"] == rank_program.digest(gpu_rank_program.steps(precision=precision, accumulate=2))


@needs_mpi
@pytest.mark.parametrize("reduce", ["one-rounding", "ring-fp16", "fp32"])
def test_nccl_and_mpi_give_the_same_bits(
    reduce: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both started by mpiexec; by NCCL no gradient is read back to the host."""
    found_by: dict[str, dict[str, Any]] = {}
    monkeypatch.setenv("FAKE_NCCL", str(tmp_path))
    for transport in ("mpi", "nccl"):
        done = ranks.mpiexec(3, PROGRAM, tmp_path, transport, json.dumps({"reduce": reduce}))
        assert done.returncode == 0, done.stderr
        found_by[transport] = found(tmp_path, 3)
        assert found_by[transport]["distributed"]["transport"] == transport
    assert found_by["nccl"]["digest"] == found_by["mpi"]["digest"]
    assert found_by["nccl"]["gets"] < found_by["mpi"]["gets"]


@pytest.mark.parametrize(("what", "words"), [("SIGKILL", "ended"), ("SIGSTOP", "did not answer within 3 s")])
def test_a_rank_that_is_lost_is_named(what: str, words: str, tmp_path: Path) -> None:
    other, lost = started(2, tmp_path, {"limit": 3.0, "at": [1, 1, what]})
    assert lost.returncode == -9
    assert other.returncode == 1
    assert re.search(rf"PeerLost: rank 1 \(process \d+ on .*\) {words}; continue with --resume", other.stderr)


def test_ranks_of_another_run_are_not_taken_in(tmp_path: Path) -> None:
    """Rank 0 is told that there are two, rank 1 that there are three."""
    port = free_port()
    asked = json.dumps({"limit": 3.0})
    environment = {**ranks.environment(), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    running = [
        subprocess.Popen(
            [sys.executable, PROGRAM, str(tmp_path), "nccl", asked],
            env={**environment, "RANK": str(rank), "WORLD_SIZE": str(2 + rank)},
            text=True,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=ranks.SECONDS)[1] for process in running]
    assert f"PeerLost: rank 1 did not come to 127.0.0.1:{port} within 3 s" in said[0]
    assert f"PeerLost: rank 0 does not take rank 1 of 3 in, at 127.0.0.1:{port}" in said[1]
