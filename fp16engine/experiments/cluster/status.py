"""How a sweep is: runs done, running, failed and left, job by job, and how long the rest takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...reporting.progress import duration
from ..runs.spec import RunSpec
from . import results
from .results import Result, State
from .scheduler import RUNNING, WAITING, JobState
from .sweep import Sweep, job_folder

_UNKNOWN = JobState("unknown", "not asked: its scheduler does not answer here")


@dataclass(frozen=True)
class JobStatus:
    """One job of a sweep.

    Args:
        number: of the job.
        ids: its numbers with the scheduler, one per start by a command.
        state: of its last start.
        done: runs done.
        failed: runs failed.
        left: runs neither done nor failed; the one in progress is one of them.
        run: the label of the run in progress, None if there is none.
        epoch: epochs done of that run.
        epochs: all of them.
        host: where the job is or was.
        at: when it last said so, in seconds since 1970, None if never.
        error: why it ended without doing its runs, None if it did not.
        seconds: estimate for what is left, None before any run is finished.
    """

    number: int
    ids: tuple[str, ...]
    state: JobState
    done: int
    failed: int
    left: int
    run: str | None
    epoch: int
    epochs: int
    host: str | None
    at: float | None
    error: str | None
    seconds: float | None

    @property
    def active(self) -> bool:
        """Tell whether the scheduler still has the job."""
        return self.state.kind in (WAITING, RUNNING)


@dataclass(frozen=True)
class Status:
    """All jobs of a sweep, and why runs failed, by the label of the run."""

    jobs: tuple[JobStatus, ...]
    reasons: Mapping[str, str]

    @property
    def done(self) -> int:
        """Return how many runs are done."""
        return sum(job.done for job in self.jobs)

    @property
    def failed(self) -> int:
        """Return how many runs failed."""
        return sum(job.failed for job in self.jobs)

    @property
    def running(self) -> int:
        """Return how many runs are in progress."""
        return sum(job.run is not None for job in self.jobs)

    @property
    def left(self) -> int:
        """Return how many runs are neither done nor failed."""
        return sum(job.left for job in self.jobs)

    @property
    def known(self) -> bool:
        """Tell whether the scheduler has answered for every job with runs left."""
        return all(job.state is not _UNKNOWN for job in self.jobs if job.left)

    @property
    def may_work(self) -> bool:
        """Tell whether a job may still do runs that are left."""
        return not self.known or any(job.active for job in self.jobs if job.left)

    @property
    def seconds(self) -> float | None:
        """Estimate how long the rest takes, by finished runs of the same network and precision.

        It takes the running jobs to be as many as there will be, and is None where nothing is known: no run
        is finished, or no job runs.
        """
        if not self.left:
            return 0.0
        rest = [job.seconds for job in self.jobs if job.left]
        known = [seconds for seconds in rest if seconds is not None]
        at_once = sum(job.state.kind == RUNNING for job in self.jobs)
        if not at_once or len(known) < len(rest):
            return None
        return max(sum(known) / at_once, max(known))

    def line(self) -> str:
        """Return the whole in one line."""
        parts = [f"{self.done + self.failed} of {self.done + self.failed + self.left} runs finished"]
        parts += [f"{self.failed} of them failed"] if self.failed else []
        parts += [f"{self.running} running"] if self.left else []
        if self.left and self.seconds is not None:
            parts.append(f"about {duration(self.seconds)} left")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "done": self.done,
            "running": self.running,
            "failed": self.failed,
            "left": self.left,
            "seconds_left": self.seconds,
            "reasons": dict(self.reasons),
            "jobs": [
                {
                    "number": job.number,
                    "ids": list(job.ids),
                    "state": job.state.words,
                    "done": job.done,
                    "failed": job.failed,
                    "left": job.left,
                    "run": job.run,
                    "epoch": job.epoch,
                    "epochs": job.epochs,
                    "host": job.host,
                    "at": job.at,
                    "error": job.error,
                    "seconds_left": job.seconds,
                }
                for job in self.jobs
            ],
        }


def look(sweep: Sweep, folder: Path, ids: Sequence[Sequence[str]], states: Mapping[int, JobState]) -> Status:
    """Return how the sweep in `folder` is, by what its jobs have written.

    Args:
        sweep: what `folder` holds.
        folder: of the sweep.
        ids: the numbers of every job with the scheduler.
        states: how jobs are, by their number; one that is left out counts as unknown.
    """
    found = [
        {key: made for key in keys if (made := results.result(job_folder(folder, number), key)) is not None}
        for number, keys in enumerate(sweep.jobs)
    ]
    rates = _seconds(sweep.specs, [result for job in found for result in job.values()])
    jobs = []
    for number, keys in enumerate(sweep.jobs):
        said = results.state(job_folder(folder, number))
        state = states.get(number, _UNKNOWN)
        open_ = [key for key in keys if key not in found[number]]
        run = said.key if said is not None and state.kind == RUNNING and said.key in open_ else None
        jobs.append(
            JobStatus(
                number=number,
                ids=tuple(ids[number]),
                state=state,
                done=sum(result.status == results.DONE for result in found[number].values()),
                failed=sum(result.status == results.FAILED for result in found[number].values()),
                left=len(open_),
                run=None if run is None else sweep.specs[run].label,
                epoch=0 if run is None or said is None else said.epoch,
                epochs=0 if run is None or said is None else said.epochs,
                host=None if said is None else said.owner.host,
                at=None if said is None else said.at,
                error=None if said is None else said.error,
                seconds=_rest(open_, sweep.specs, rates, said if run else None),
            )
        )
    reasons = {
        sweep.specs[key].label: result.reason or "no reason is known"
        for job in found
        for key, result in job.items()
        if result.status == results.FAILED
    }
    return Status(tuple(jobs), reasons)


def _seconds(specs: Mapping[str, RunSpec], finished: Sequence[Result]) -> dict[tuple[str, ...], float]:
    """Return the mean seconds of a run by network and precision; that of all under ()."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for result in finished:
        spec = specs[result.key]
        for kind in ((spec.model, spec.precision), ()):
            groups.setdefault(kind, []).append(result.seconds)
    return {kind: sum(seconds) / len(seconds) for kind, seconds in groups.items()}


def _rest(
    open_: Sequence[str],
    specs: Mapping[str, RunSpec],
    rates: Mapping[tuple[str, ...], float],
    said: State | None,
) -> float | None:
    if open_ and not rates:
        return None
    seconds = {key: rates.get((specs[key].model, specs[key].precision), rates.get((), 0.0)) for key in open_}
    if said is not None and said.key is not None and said.epochs:
        seconds[said.key] *= 1 - said.epoch / said.epochs
    return sum(seconds.values())
