"""Inside a job: runs published one by one, signals, restarts, and what keeps a job from working."""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_sweep

from fp16engine.experiments.cluster import job, results
from fp16engine.experiments.cluster.collect import Collector
from fp16engine.experiments.cluster.job import ATTEMPTS, REQUEUE, SweepJob
from fp16engine.experiments.cluster.sweep import cancel, job_folder
from fp16engine.experiments.reproduce import RUNS, STORE
from fp16engine.experiments.runs.store import DONE, FAILED, Store
from fp16engine.reporting.lock import hold
from fp16engine.reporting.owner import Owner
from fp16engine.reporting.progress import PlainLines, Silent

pytestmark = pytest.mark.slow


@pytest.fixture
def requeued() -> Iterator[list[str]]:
    """What submitit's handler would get."""
    got: list[str] = []
    before = signal.signal(REQUEUE, lambda number, frame: got.append(signal.Signals(number).name))
    yield got
    signal.signal(REQUEUE, before)


def merged(out: Path, folder: Path, sweep: Any) -> str:
    with Store(out / STORE) as store:
        Collector(sweep, folder, store, Silent()).merge()
    return tiny_sweep.export(out)


def signalled(monkeypatch: pytest.MonkeyPatch, number: int, at: int) -> None:
    """Send this process a signal at the n-th step from here on."""
    steps = iter(range(1, 1 << 30))

    def step(self: PlainLines, *arguments: Any) -> None:
        if next(steps) == at:
            signal.raise_signal(number)

    monkeypatch.setattr(PlainLines, "step", step)


def test_jobs_publish_their_runs_and_the_merged_store_is_that_of_one_process(
    tmp_path: Path, requeued: list[str]
) -> None:
    sweep, folder = tiny_sweep.made(tmp_path / "jobs")
    for number in range(2):
        SweepJob()(str(folder), number)
        assert all(results.published(job_folder(folder, number), key) for key in sweep.jobs[number])
        state = results.state(job_folder(folder, number))
        assert (state.key, state.epoch, state.epochs) == (sweep.jobs[number][-1], 2, 2)
    assert merged(tmp_path / "jobs", folder, sweep) == tiny_sweep.whole(tmp_path / "whole")
    assert not requeued
    assert not list((tmp_path / "jobs" / RUNS).glob("*/checkpoint*"))


@pytest.mark.parametrize("number", [REQUEUE, signal.SIGTERM])
def test_a_signal_ends_the_job_with_the_run_saved_and_the_next_start_has_the_same_bits(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requeued: list[str]
) -> None:
    sweep, folder = tiny_sweep.made(tmp_path / "jobs", 1, checkpoint_every=None)
    signalled(monkeypatch, number, 9)  # a run has 6 steps: in the second run
    SweepJob()(str(folder), 0)
    own = job_folder(folder, 0)
    assert [results.published(own, key) for key in sweep.jobs[0]] == [True, False, False, False]
    state = results.state(own)
    assert (state.stopped, state.key) == (number.name, sweep.jobs[0][1])
    assert requeued == ([REQUEUE.name] if number == REQUEUE else [])
    saved = json.loads((tmp_path / "jobs" / RUNS / sweep.jobs[0][1] / "checkpoint.json").read_text())
    assert saved["checkpoint"]["step"] == 3
    SweepJob()(str(folder), 0)
    assert results.state(own).stopped is None
    assert merged(tmp_path / "jobs", folder, sweep) == tiny_sweep.whole(tmp_path / "whole")


def test_a_cancelled_sweep_has_no_run_begun(tmp_path: Path) -> None:
    sweep, folder = tiny_sweep.made(tmp_path)
    cancel(folder)
    SweepJob()(str(folder), 0)
    assert results.state(job_folder(folder, 0)).stopped == "--cancel"
    assert not results.published(job_folder(folder, 0), sweep.jobs[0][0])


def test_a_signal_between_two_runs_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, folder = tiny_sweep.made(tmp_path, 1)
    publish = results.publish

    def signalling(*arguments: Any) -> None:
        publish(*arguments)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(results, "publish", signalling)
    SweepJob()(str(folder), 0)
    own = job_folder(folder, 0)
    assert [results.published(own, key) for key in sweep.jobs[0]] == [True, False, False, False]
    assert results.state(own).stopped == "SIGTERM"


def test_the_claim_of_a_start_on_another_machine_does_not_hold(tmp_path: Path) -> None:
    sweep, folder = tiny_sweep.made(tmp_path, 4)
    own, key = job_folder(folder, 0), sweep.jobs[0][0]
    elsewhere = dataclasses.replace(Owner.of_process(1), machine="another", host="another")
    with Store(own / STORE, elsewhere) as store:
        store.add([sweep.specs[key]])
        assert store.claim([key]) == key
    SweepJob()(str(folder), 0)
    assert results.result(own, key).status == DONE


def test_a_result_that_was_not_published_any_more_is_published_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, folder = tiny_sweep.made(tmp_path, 4)
    with monkeypatch.context() as patch:
        patch.setattr(results, "publish", lambda *arguments: None)
        SweepJob()(str(folder), 0)
    assert not results.published(job_folder(folder, 0), sweep.jobs[0][0])
    SweepJob()(str(folder), 0)
    with Store(job_folder(folder, 0) / STORE) as store:
        assert store.row(sweep.jobs[0][0]).claims == 1
    assert results.published(job_folder(folder, 0), sweep.jobs[0][0])


def test_a_run_within_which_the_job_ends_again_and_again_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, folder = tiny_sweep.made(tmp_path, 1)
    own = job_folder(folder, 0)
    first, second, *_ = sweep.jobs[0]

    class Killed(BaseException):
        pass

    def killed(*arguments: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(job.RunWorker, "work", killed)
        for attempt in range(1, ATTEMPTS + 1):
            with pytest.raises(Killed):
                SweepJob()(str(folder), 0)
            assert results.state(own).attempt == attempt
    SweepJob()(str(folder), 0)
    failed = results.result(own, first)
    assert failed.status == FAILED and f"ended {ATTEMPTS} times within this run" in str(failed.reason)
    assert results.result(own, second).status == DONE


def test_a_new_checkpoint_counts_as_progress(tmp_path: Path) -> None:
    sweep, folder = tiny_sweep.made(tmp_path, 4)
    own, spec = job_folder(folder, 0), sweep.specs[sweep.jobs[0][0]]
    shown = job._Shown(own, results.State(Owner.of_process(1), spec.key, ATTEMPTS, mark=7))
    assert shown.start(spec, 7) == ATTEMPTS + 1
    assert shown.start(spec, 8) == 1
    assert shown.start(spec, 8) == 2


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    wild = dataclasses.replace(tiny_sweep.EXPERIMENT, arms=(tiny_sweep.WILD,), seeds=1)
    sweep, folder = tiny_sweep.made(tmp_path, experiment=wild)
    SweepJob()(str(folder), 0)
    made = results.result(job_folder(folder, 0), sweep.jobs[0][0])
    assert made.status == FAILED and "not finite" in str(made.reason)


def test_other_data_than_those_of_the_sweep_are_an_error_that_the_job_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = tiny_sweep.made(tmp_path)
    monkeypatch.setattr(job, "DatasetCache", lambda *arguments: tiny_sweep.reproduce.DatasetCache(limit=8))
    with pytest.raises(ValueError, match="must be the data that the sweep was made with"):
        SweepJob()(str(folder), 0)
    assert "must be the data" in str(results.state(job_folder(folder, 0)).error)


def test_a_job_that_another_process_does_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = tiny_sweep.made(tmp_path)
    monkeypatch.setattr(job, "_LOCK_SECONDS", 0.0)
    over, held = threading.Event(), threading.Event()

    def other() -> None:
        with hold(job_folder(folder, 0)):
            held.set()
            over.wait()

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    try:
        SweepJob()(str(folder), 0)
    finally:
        over.set()
        thread.join()
    assert "nothing done" in capsys.readouterr().err
    assert results.state(job_folder(folder, 0)) is None


def test_threads_are_those_asked_for_or_granted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: Any
) -> None:
    sweep, _ = tiny_sweep.made(tmp_path, device="cpu", threads=2)
    job._use_threads(sweep)
    assert threads.info()["threads"] == 2
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    job._use_threads(dataclasses.replace(sweep, threads=None))
    assert threads.info()["threads"] == 1
    assert dataclasses.replace(sweep, device="cuda:1").job_device == "cuda"
    assert dataclasses.replace(sweep, device="cuda:1", cluster="slurm").job_device == "cuda:1"
