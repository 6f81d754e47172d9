"""The command's side: merged once, started again where that helps, left alone where it does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import tiny_sweep

from fp16engine.experiments.cluster import collect, results
from fp16engine.experiments.cluster.collect import SILENT_ENDS, Collector
from fp16engine.experiments.cluster.scheduler import CANCELLED, ENDED, RUNNING, Handle, JobState
from fp16engine.experiments.cluster.sweep import Sweep, job_folder
from fp16engine.experiments.reproduce import STORE
from fp16engine.experiments.runs.store import DONE, FAILED, Row, Store
from fp16engine.reporting.owner import Owner
from fp16engine.reporting.progress import Silent

Job = Callable[[int], str]  # what a start of job N does; returns how it ends


class Fake:
    """A scheduler whose jobs end as soon as they are started."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.started: list[int] = []
        self.kinds: dict[Handle, str] = {}

    def submit(self, numbers: Sequence[int]) -> Iterator[tuple[int, Handle]]:
        for number in numbers:
            self.started.append(number)
            handle = Handle(str(len(self.started)))
            self.kinds[handle] = self.job(number)
            yield number, handle

    def states(self, handles: Mapping[Handle, int]) -> dict[Handle, JobState]:
        return {handle: JobState(self.kinds[handle], "said") for handle in handles if handle in self.kinds}

    def cancel(self, handles: Sequence[Handle]) -> None:
        for handle in handles:
            self.kinds[handle] = CANCELLED


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Sweep, Path]:
    monkeypatch.setattr(collect.time, "sleep", lambda seconds: None)
    return tiny_sweep.made(tmp_path)


@pytest.fixture
def collector(made: tuple[Sweep, Path], tmp_path: Path) -> Iterator[Collector]:
    with Store(tmp_path / STORE) as store:
        yield Collector(*made, store, Silent())


def use(collector: Collector, job: Job) -> Fake:
    fake = Fake(job)
    collector._scheduler = fake
    return fake


def finish(collector: Collector, number: int, count: int = 100, status: str = DONE) -> None:
    """Publish so many results of a job."""
    own = job_folder(collector.folder, number)
    left = [key for key in collector.sweep.jobs[number] if not results.published(own, key)]
    for key in left[:count]:
        reason = "why" if status == FAILED else None
        row = Row(collector.sweep.specs[key], status, reason, {"epochs": 2}, {}, ({"epoch": 1},))
        results.publish(own, key, row, 3.0)


def test_results_are_merged_once(collector: Collector, tmp_path: Path) -> None:
    finish(collector, 0)
    assert collector.merge() == 2 and collector.merge() == 0
    before = tiny_sweep.export(tmp_path)
    finish(collector, 1, 1)
    finish(collector, 1, 1, FAILED)
    assert collector.merge() == 2
    assert tiny_sweep.export(tmp_path) != before
    first, second = collector.sweep.jobs[1]
    assert collector.store.row(second).reason == "why" and collector.store.row(first).status == DONE


def test_a_run_that_the_store_has_is_not_merged_again(collector: Collector) -> None:
    key = collector.sweep.jobs[0][0]
    collector.store.add([collector.sweep.specs[key]])
    collector.store.claim([key])
    collector.store.finish(key, DONE, {"epochs": 7}, {}, [])
    finish(collector, 0)
    assert collector.merge() == 1
    assert collector.store.row(key).figures == {"epochs": 7}


def test_a_damaged_result_is_named(collector: Collector) -> None:
    finish(collector, 0)
    path = next(collector.folder.glob("job-0000/results/*.json"))
    path.write_text("{}")
    with pytest.raises(ValueError, match="must be the result of run"):
        collector.merge()


def test_a_job_that_ends_with_runs_left_is_started_again(collector: Collector) -> None:
    def one_run(number: int) -> str:
        results.write_state(job_folder(collector.folder, number), results.State(Owner.of_process(1)))
        finish(collector, number, 1)
        return ENDED

    fake = use(collector, one_run)
    collector.submit([0, 1])
    status = collector.watch()
    assert (status.done, status.left, sorted(fake.started)) == (4, 0, [0, 0, 1, 1])
    assert [job.ids for job in status.jobs] == [("1", "3"), ("2", "4")]


def test_a_job_without_a_sign_of_life_is_given_up(collector: Collector) -> None:
    fake = use(collector, lambda number: ENDED)
    collector.submit([0])
    status = collector.watch()
    assert len(fake.started) == 1 + SILENT_ENDS and status.left == 4


def test_a_job_that_shows_signs_of_life_is_not(collector: Collector) -> None:
    def late(number: int) -> str:
        if len(fake.started) > 2 * SILENT_ENDS:
            finish(collector, number)
        state = results.State(Owner.of_process(1), attempt=len(fake.started))
        results.write_state(job_folder(collector.folder, number), state)
        return ENDED

    fake = use(collector, late)
    collector.submit([0, 1])
    assert collector.watch().left == 0


def test_a_cancelled_job_and_one_that_says_why_it_cannot_work_are_not_started_again(
    collector: Collector,
) -> None:
    def job(number: int) -> str:
        if number == 0:
            return CANCELLED
        state = results.State(Owner.of_process(1), error="FileNotFoundError: no data")
        results.write_state(job_folder(collector.folder, number), state)
        return ENDED

    fake = use(collector, job)
    collector.submit([0, 1])
    status = collector.watch()
    assert fake.started == [0, 1] and status.left == 4
    assert [job.error for job in status.jobs] == [None, "FileNotFoundError: no data"]


def test_cancel_ends_all_jobs_and_merges(collector: Collector) -> None:
    fake = use(collector, lambda number: RUNNING)
    collector.submit([0, 1])
    finish(collector, 0, 1)
    status = collector.cancel()
    assert not any(job.active for job in status.jobs) and set(fake.kinds.values()) == {CANCELLED}
    assert collector.store.status(collector.sweep.jobs[0])[collector.sweep.jobs[0][0]] == DONE


def test_a_sweep_of_which_no_job_starts_is_removed(collector: Collector) -> None:
    def refused(number: int) -> str:
        raise ValueError("no")

    use(collector, refused)
    with pytest.raises(ValueError, match="no"):
        collector.submit([0, 1])
    assert not collector.folder.exists()


@pytest.mark.parametrize("value", [{}, {"jobs": []}, {"jobs": [[{"id": "x"}], []]}, {"jobs": 1}])
def test_damaged_submissions_are_named(collector: Collector, value: object) -> None:
    (collector.folder / "submissions.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match="must list the starts of 2 jobs"):
        collector.look()


def test_the_status_counts_runs_and_says_what_is_left(collector: Collector) -> None:
    use(collector, lambda number: RUNNING)
    assert collector.look().seconds is None
    collector.submit([0, 1])
    finish(collector, 0, 1, FAILED)
    key = collector.sweep.jobs[1][0]
    state = results.State(Owner.of_process(1), key, 1, None, 1, 2)
    results.write_state(job_folder(collector.folder, 1), state)
    status = collector.look()
    assert (status.done, status.failed, status.running, status.left) == (0, 1, 1, 3)
    # 3 s a run: one left in the first job, one and a half in the second
    assert [job.seconds for job in status.jobs] == [3.0, 4.5] and status.seconds == 4.5
    assert status.line() == "1 of 4 runs finished, 1 of them failed, 1 running, about 4 s left"
    assert list(status.reasons.values()) == ["why"]
    assert json.loads(json.dumps(status.to_json()))["seconds_left"] == 4.5
    assert status.jobs[1].run == collector.sweep.specs[key].label


def test_what_cannot_be_asked_about_is_unknown_and_not_started_again(collector: Collector) -> None:
    fake = use(collector, lambda number: RUNNING)
    collector.submit([0, 1])
    fake.kinds.clear()
    status = collector.watch()
    assert [job.state.kind for job in status.jobs] == ["unknown", "unknown"] and len(fake.started) == 2
