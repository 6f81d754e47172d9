"""`mpiexec -n P fp16engine train --distributed`: one run, one set of results, one sentence where it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ranks

import fp16engine as fe
from fp16engine.cli import main
from fp16engine.cli.options import REDUCE
from fp16engine.distributed import reduce

TINY = ["train", "--data", "digits", "--limit", "40", "--model", "dnn", "--epochs", "2", "--batch-size", "8"]
needs_mpi = pytest.mark.skipif(bool(ranks.MISSING), reason=ranks.MISSING)


def test_the_options_name_the_reductions_there_are() -> None:
    assert reduce.REDUCE == REDUCE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sync-norm"], "--sync-norm must be given with --distributed, got True"),
        (["--reduce", "fp32"], "--reduce must be given with --distributed, got 'fp32'"),
    ],
)
def test_options_of_ranks_without_ranks_are_refused(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TINY, *options, "--out", str(tmp_path / "out")]) == 2
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
    done = ranks.mpiexec(2, "-m", "fp16engine", *TINY, "--distributed", "--out", out, "--json")
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

    wrong = ranks.mpiexec(2, "-m", "fp16engine", *TINY, "--distributed", "--data-dir", tmp_path / "none")
    assert wrong.returncode != 0
    said = [line for line in wrong.stderr.splitlines() if line.startswith("fp16engine: ")]
    assert said == [f"fp16engine: --data-dir must be a folder or file that exists, got {tmp_path / 'none'}"]
