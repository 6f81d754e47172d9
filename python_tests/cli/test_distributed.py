"""`mpiexec -n P fp16engine train --distributed`: one run, one set of results, one sentence where it fails."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import ranks

import fp16engine as fe
from fp16engine.cli import main
from fp16engine.cli import ranks as cli_ranks
from fp16engine.cli.options import REDUCE, TRANSPORTS
from fp16engine.distributed import group, reduce

TINY = ["train", "--data", "digits", "--limit", "40", "--model", "dnn", "--epochs", "2", "--batch-size", "8"]
needs_mpi = pytest.mark.skipif(bool(ranks.MISSING), reason=ranks.MISSING)


def test_the_options_name_what_there_is() -> None:
    assert reduce.REDUCE == REDUCE
    assert group.TRANSPORTS == TRANSPORTS


def test_the_ranks_of_a_machine_share_its_cores_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from fp16engine.backend.gpu import cuda

    monkeypatch.setattr(cli_ranks.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(cuda, "gpus", lambda: 2)
    shares = []
    for rank in (4, 5, 7):
        arguments = argparse.Namespace(threads=None, device="cuda")
        cli_ranks._share_machine(arguments, rank, [4, 5, 7])
        shares.append((arguments.threads, arguments.device))
    assert shares == [(5, "cuda:0"), (5, "cuda:1"), (5, "cuda:0")]
    arguments = argparse.Namespace(threads=3, device="cuda:1")
    cli_ranks._share_machine(arguments, 5, [4, 5])
    assert (arguments.threads, arguments.device) == (3, "cuda:1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sync-norm"], "--sync-norm must be given with --distributed, got True"),
        (["--reduce", "fp32"], "--reduce must be given with --distributed, got 'fp32'"),
        (["--transport", "nccl"], "--transport must be given with --distributed, got 'nccl'"),
    ],
)
def test_options_of_ranks_without_ranks_are_refused(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TINY, *options, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"fp16engine: {words}\n"


def test_nccl_without_a_gpu_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--distributed", "--transport", "nccl", "--out", str(tmp_path / "out")]) == 2
    words = "--transport must be auto or mpi without --device cuda, got 'nccl'"
    assert capsys.readouterr().err == f"fp16engine: {words}\n"


@pytest.mark.usefixtures("small_dnn")
def test_a_process_alone_trains_as_without(tmp_path: Path) -> None:
    for name, option in (("plain", []), ("alone", ["--distributed"])):
        assert main([*TINY, *option, "--out", str(tmp_path / name)]) == 0
    plain, alone = (fe.Checkpoint.load(tmp_path / name) for name in ("plain", "alone"))
    assert plain.body["tensors"] == alone.body["tensors"]
    assert "distributed" not in alone.body


@needs_mpi
@pytest.mark.slow
def test_two_ranks_write_one_run(tmp_path: Path) -> None:
    out, alone = tmp_path / "out", tmp_path / "alone"
    done = ranks.mpiexec(2, "-m", "fp16engine", *TINY, "--distributed", "--strict", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert "2 ranks by mpi, reduce: one-rounding" in done.stderr
    summary = json.loads(done.stdout)  # one document: rank 0's
    assert summary["distributed"]["ranks"] == 2
    one = ranks.mpiexec(1, "-m", "fp16engine", *TINY, "--accumulate", "2", "--out", alone)
    assert one.returncode == 0, one.stderr
    theirs, ours = (fe.Checkpoint.load(folder).body for folder in (out, alone))
    assert theirs["tensors"] == ours["tensors"]

    again = ranks.mpiexec(2, "-m", "fp16engine", *TINY, "--distributed", "--out", out)
    assert again.returncode != 0
    said = [line for line in again.stderr.splitlines() if line.startswith("fp16engine: ")]
    assert len(said) == 1
    assert said[0].startswith("fp16engine: rank 0: out must be a folder without results")


@needs_mpi
@pytest.mark.slow
def test_a_rank_may_have_no_micro_batch_of_an_audited_step(tmp_path: Path) -> None:
    """Of 17 images in batches of 8 a rank the last step has one; large messages wait for their receiver."""
    few = [*TINY[:3], "--limit", "17", *TINY[5:], "--threads", "1", "--peer-limit", "60"]
    done = ranks.mpiexec(3, "-m", "fp16engine", *few, "--distributed", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--distributed", "--data-dir", "/none"],
            "--data-dir must be a folder or file that exists, got /none",
        ),
        (
            ["--distributed", "--epochs", "x"],
            "--epochs must be an integer >= 1, got 'x' (see fp16engine train --help)",
        ),
        ([], "--distributed must be given where a launcher starts several processes, got none"),
    ],
)
def test_an_error_that_all_ranks_have_is_told_once(arguments: list[str], words: str) -> None:
    wrong = ranks.mpiexec(2, "-m", "fp16engine", *TINY, *arguments)
    assert wrong.returncode != 0
    [said] = [line for line in wrong.stderr.splitlines() if line.startswith("fp16engine: ")]
    assert said.startswith(f"fp16engine: {words}")


@needs_mpi
@pytest.mark.slow
def test_a_rank_without_distributed_ends_the_others(tmp_path: Path) -> None:
    assert ranks.MPIEXEC is not None
    program = [sys.executable, "-m", "fp16engine", *TINY, "--out", str(tmp_path / "out")]
    command = [ranks.MPIEXEC, "-n", "1", *program, "--distributed", ":", "-n", "1", *program]
    done = subprocess.run(
        command, env=ranks.environment(), capture_output=True, text=True, timeout=ranks.SECONDS
    )
    assert done.returncode != 0
    said = "fp16engine: rank 1: --distributed must be given where a launcher starts several processes"
    assert said in done.stderr


@pytest.mark.usefixtures("small_dnn")
def test_a_process_of_several_without_distributed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "reached", lambda: None)
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main([*TINY, "--out", str(tmp_path / "out")]) == 2
    words = "--distributed must be given where a launcher starts several processes, got none"
    assert capsys.readouterr().err == f"fp16engine: {words}\n"
    assert main([*TINY, "--distributed", "--lr", "x"]) == 2
    assert capsys.readouterr().err.startswith("fp16engine: --lr must be")
    monkeypatch.setenv("PMI_SIZE", "1")
    assert main([*TINY, "--epochs", "1", "--out", str(tmp_path / "out")]) == 0
