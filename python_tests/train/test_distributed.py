"""Trainer(distributed=True) on real processes: the bits of one process, and what happens when one is lost."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import rank_program
import ranks

import fp16engine as fe

pytestmark = [
    pytest.mark.skipif(bool(ranks.MISSING), reason=ranks.MISSING),
    pytest.mark.slow,
]
PROGRAM = rank_program.__file__
CPU = {"device": "cpu"}


def run(size: int, folder: Path, asked: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """What `size` ranks print; each leaves what it found in the folder."""
    trainer = {**CPU, "distributed": True, **asked.get("trainer", {})}
    return ranks.mpiexec(size, PROGRAM, folder, json.dumps({**asked, "trainer": trainer}))


def found(size: int, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """What all ranks found, which must be the same."""
    done = run(size, folder, asked)
    assert done.returncode == 0, done.stderr
    records = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(size)]
    assert all(record == records[0] for record in records)
    return records[0]


def alone(**asked: Any) -> dict[str, Any]:
    """What one process finds."""
    trainer, history = rank_program.train({**asked, "trainer": {**CPU, **asked.get("trainer", {})}})
    return {
        "digest": rank_program.digest(trainer),
        "accuracy": [row.test_accuracy for row in history.epochs],
        "test_loss": [row.test_loss for row in history.epochs],
        "train_loss": [row.train_loss for row in history.epochs],
        "steps": [trainer.applied_steps, trainer.skipped_steps, trainer.nonfinite_steps],
    }


def same(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    assert {name: theirs[name] for name in ours} == ours


@pytest.mark.parametrize("precision", ["fp16", "mp", "hbfp6", "fp32", "bf16", "bf16-sr"])
def test_two_ranks_have_the_bits_of_one_process_that_accumulates(precision: str, tmp_path: Path) -> None:
    """Weights, running statistics, dropout, skipped steps, losses and accuracies; 50 images in steps of 8."""
    asked = {"trainer": {"precision": precision}}
    theirs = found(2, tmp_path, asked)
    same(theirs, alone(trainer={"precision": precision, "accumulate": 2}))
    assert theirs["distributed"]["ranks"] == 2
    assert theirs["mean"] == [20_000, 0.5]


@pytest.mark.parametrize("precision", ["fp16", "mp"])
def test_a_residual_network_on_images_of_cifar10s_form(precision: str, tmp_path: Path) -> None:
    asked = {"network": "resnet20", "fit": {"epochs": 1}}
    theirs = found(2, tmp_path, {**asked, "trainer": {"precision": precision, "augment": "crop-flip"}})
    same(theirs, alone(**asked, trainer={"precision": precision, "augment": "crop-flip", "accumulate": 2}))


@pytest.mark.parametrize("size", [3, 4])
def test_the_bits_do_not_depend_on_the_number_of_ranks(size: int, tmp_path: Path) -> None:
    """Twelve micro-batches of a step on three and on four ranks; the last step of an epoch has one."""
    options = {"optimizer": "adam", "lr": 0.01, "augment": "study"}
    asked = {"trainer": {**options, "accumulate": 12 // size}}
    same(found(size, tmp_path, asked), alone(trainer={**options, "accumulate": 12}))


def test_an_overflow_on_one_rank_is_skipped_by_all(tmp_path: Path) -> None:
    """Under mp the first steps look for the loss scale; the skips are those of one process."""
    options = {"precision": "mp", "lr": 2.0}
    asked = {"trainer": options, "fit": {"epochs": 4}}
    theirs = found(2, tmp_path, asked)
    same(theirs, alone(trainer={**options, "accumulate": 2}, fit={"epochs": 4}))


@pytest.mark.parametrize("reduce", ["ring-fp16", "fp32"])
def test_other_reductions_train_too_and_are_named(reduce: str, tmp_path: Path) -> None:
    theirs = found(2, tmp_path, {"trainer": {"reduce": reduce}, "fit": {"out": str(tmp_path / "out")}})
    assert theirs["distributed"]["reduce"] == reduce
    body = fe.Checkpoint.load(tmp_path / "out").body
    assert body["distributed"] == {"ranks": 2, "reduce": reduce, "sync_norm": False, "transport": "mpi"}


def test_synchronised_norms_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    """In FP32: two ranks with batches of 4 against one process with batches of 8, up to the order of sums."""
    options = {"precision": "fp32", "sync_norm": True}
    asked = {"fit": {"epochs": 1}, "dropout": 0.0}
    theirs = found(2, tmp_path, {**asked, "trainer": options})
    whole = alone(trainer={"precision": "fp32"}, fit={"epochs": 1, "batch_size": 8}, dropout=0.0)
    parts = alone(trainer={"precision": "fp32", "accumulate": 2}, **asked)
    assert theirs["train_loss"] != pytest.approx(parts["train_loss"], rel=1e-3)
    assert theirs["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-3)


def test_a_run_continues_on_another_number_of_ranks_with_the_same_bits(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    asked = {"fit": {"epochs": 3, "out": str(out)}}
    stopped = run(4, tmp_path, {**asked, "at": [2, 5, "SIGTERM"]})
    assert "stopped by SIGTERM after step 5" in stopped.stderr
    assert stopped.stderr.count("Interrupted: ") == 1
    for size in (2, 1):
        asked["fit"] |= {"epochs": 3, "resume": True}
        if size == 2:
            partly = run(2, tmp_path, {**asked, "at": [0, 8, "SIGTERM"]})
            assert "stopped by SIGTERM after step 8" in partly.stderr
        else:
            same(found(1, tmp_path, asked), alone(trainer={"accumulate": 4}, fit={"epochs": 3, "out": whole}))


def test_a_resumed_run_says_what_changes(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"fit": {"epochs": 1, "out": str(tmp_path / "out")}}
    asked["trainer"] = {"sync_norm": True}
    assert run(2, tmp_path, asked).returncode == 0
    trainer = rank_program.tiny_run.trainer(device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        notes: list[str] = []
        patch.setattr(fe.reporting.progress.Silent, "note", lambda self, text: notes.append(text))
        trainer.fit(rank_program.tiny_run.data(), 1, 4, tmp_path / "out", resume=True, progress=False)
    assert "resumed on 1 rank, saved by 2: a step keeps its 2 micro-batches; norms take" in notes[0]
    refused = run(2, tmp_path, {**asked, "trainer": {}, "fit": {**asked["fit"], "resume": True}})
    assert "sync_norm: the checkpoint has True, this run has False" in refused.stderr
    assert refused.stderr.count("CheckpointError: ") == 1


@pytest.mark.parametrize(
    ("of_rank", "words"),
    [
        ({"precision": "mp"}, "on all ranks, got precision.name 'fp16' on rank 0 and 'mp' on rank 1"),
        ({"lr": 0.1}, "training.lr must be the same on all ranks, got 0.05 on rank 0 and 0.1 on rank 1"),
        ({"seed": 4}, "seed, steps.random.seed must be the same on all ranks, got seed 3 on rank 0 and 4 on"),
        ({"reduce": "fp32"}, "distributed.reduce must be the same on all ranks"),
    ],
)
def test_ranks_that_differ_are_refused_at_the_start(
    of_rank: dict[str, Any], words: str, tmp_path: Path
) -> None:
    refused = run(2, tmp_path, {"of_rank": {"1": of_rank}})
    assert refused.returncode != 0
    assert words in refused.stderr
    assert len(re.findall("^ValueError: ", refused.stderr, re.MULTILINE)) == 1


def test_a_killed_rank_ends_all_and_the_run_continues(tmp_path: Path) -> None:
    asked = {"fit": {"epochs": 3, "out": str(tmp_path / "out"), "checkpoint_every": 1}}
    start = time.monotonic()
    killed = run(2, tmp_path, {**asked, "at": [1, 5, "SIGKILL"]})
    assert killed.returncode != 0 and time.monotonic() - start < 30
    asked["fit"]["resume"] = True
    same(found(2, tmp_path, asked), alone(trainer={"accumulate": 2}, fit={"epochs": 3}))


def test_a_rank_that_hangs_is_named(tmp_path: Path) -> None:
    hung = run(2, tmp_path, {"at": [1, 5, "SIGSTOP"], "limit": 2.0})
    assert hung.returncode != 0
    assert re.search(
        r"PeerLost: rank 1 \(process \d+ on .*\) did not answer within 2 s; continue with --resume",
        hung.stderr,
    )
