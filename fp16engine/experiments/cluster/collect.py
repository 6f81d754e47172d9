"""The command's side of a sweep: starts jobs, merges what they publish, starts again what was killed."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...bounded import FAULTS
from ...reporting.files import make_folder, write_atomically
from ...reporting.progress import Reporter, Silent
from ..reproduce import STORE
from ..runs.spec import canonical
from ..runs.store import DONE, FAILED, Store
from . import results, status
from .scheduler import CANCELLED, ENDED, RUNNING, WAITING, Handle, JobState, Scheduler, log, scheduler
from .status import Status
from .sweep import LOCAL, SLURM, Sweep, cancel, cancelled, following, job_folder, latest, read_json

_SUBMISSIONS = "submissions.json"
SILENT_ENDS = 5  # of a job one after the other, without a sign of life in between
# Seconds between two looks; those at Slurm become rarer, so that its controller has little to do.
_FIRST_POLL, _POLL_GROWTH = 1.0, 0.1
_LAST_POLL = {LOCAL: 2.0, SLURM: 30.0}
_CANCEL_SECONDS = 60.0


@contextlib.contextmanager
def opened(
    out: Path, shown: Reporter | None = None, sweep: Sweep | None = None
) -> Iterator[Collector | None]:
    """Open the last sweep of a results folder, or write a new one; yields None where there is none.

    Raises:
        ValueError: its files are damaged.
    """
    folder = latest(out)
    if sweep is not None:
        folder = following(out)
        sweep.write(folder)
        for number in range(len(sweep.jobs)):
            make_folder(job_folder(folder, number))
    if folder is None:
        yield None
        return
    with Store(out / STORE) as store:
        yield Collector(sweep or Sweep.read(folder), folder.absolute(), store, shown or Silent())


@dataclass
class Collector:
    """A sweep in work.

    Args:
        sweep: what `folder` holds.
        folder: of the sweep.
        store: where results are merged; no job opens it.
        shown: is told how it goes.
    """

    sweep: Sweep
    folder: Path
    store: Store
    shown: Reporter
    _scheduler: Scheduler = field(init=False)
    _silent: dict[int, tuple[Any, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._scheduler = scheduler(self.sweep, self.folder)

    def submit(self, numbers: Sequence[int]) -> None:
        """Start jobs; each is noted as soon as it is started. A sweep of which no job starts is removed."""
        handles = self._handles()
        try:
            for number, handle in self._scheduler.submit(numbers):
                handles[number].append(handle)
                document = {"jobs": [[one.to_json() for one in job] for job in handles]}
                write_atomically(self.folder / _SUBMISSIONS, canonical(document))
        except BaseException:
            if not any(handles):
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def merge(self) -> int:
        """Enter what the jobs have published and the store does not have; return how many runs that is."""
        missing = [
            (number, key) for number, keys in enumerate(self.sweep.jobs) for key in keys
            if results.published(job_folder(self.folder, number), key)
        ]  # fmt: skip
        self.store.add(self.sweep.specs[key] for _, key in missing)
        known = self.store.status([key for _, key in missing])
        entered = 0
        for number, key in missing:
            if known[key] in (DONE, FAILED):
                continue
            made = results.result(job_folder(self.folder, number), key)
            if made is not None and self.store.claim([key]) is not None:
                self.store.finish(key, made.status, made.figures, made.measured, made.history, made.reason)
                entered += 1
        return entered

    def look(self) -> Status:
        """Return how the sweep is."""
        handles = self._handles()
        ids = [[handle.id for handle in job] for job in handles]
        return status.look(self.sweep, self.folder, ids, self._states(handles))

    def watch(self) -> Status:
        """Merge and show until all runs are finished, starting jobs again that ended before.

        A job that was cancelled, that says why it cannot work, or that ends again and again without a sign of
        life is not started again: what it has not done stays open.
        """
        before, begun = "", time.monotonic()
        while True:
            self.merge()
            now = self.look()
            if now.line() != before:
                self.shown.note(now.line())
                before = now.line()
            again = [job.number for job in now.jobs if job.left and not job.active and self._worth_it(job)]
            self.submit(again)
            if not again and not any(job.active and job.left for job in now.jobs):
                self.merge()
                return self.look()
            pause = _FIRST_POLL + _POLL_GROWTH * (time.monotonic() - begun)
            time.sleep(min(pause, _LAST_POLL[self.sweep.cluster]))

    def cancel(self) -> Status:
        """End all jobs, wait until they are gone, and merge what they finished."""
        handles = [handle for job in self._handles() for handle in job]
        cancel(self.folder)  # what starts meanwhile ends by itself
        self._scheduler.cancel(handles)
        end = time.monotonic() + _CANCEL_SECONDS
        now = self.look()
        while any(job.active for job in now.jobs) and time.monotonic() < end:
            time.sleep(_FIRST_POLL)
            now = self.look()
        self.merge()
        return now

    def logs(self, number: int) -> Path | None:
        """Return the log of the last start of a job, None if it was never started."""
        handles = self._handles()[number]
        return log(self.folder, handles[-1]) if handles else None

    def _worth_it(self, job: status.JobStatus) -> bool:
        """Tell whether an ended job is to be started again, and say so if not."""
        if job.state.kind != ENDED or job.error is not None or cancelled(self.folder):
            return False
        said = results.state(job_folder(self.folder, job.number))
        last, count = self._silent.get(job.number, (None, 0))
        count = count + 1 if last == (job.left, said) else 1
        self._silent[job.number] = ((job.left, said), count)
        return count <= SILENT_ENDS

    def _states(self, handles: Sequence[Sequence[Handle]]) -> dict[int, JobState]:
        """Return how jobs are, by number: as active as the most active start of each."""
        flat = {handle: number for number, job in enumerate(handles) for handle in job}
        found = self._scheduler.states(flat)
        result: dict[int, JobState] = {}
        for number, job in enumerate(handles):
            known = [found[handle] for handle in job if handle in found]
            active = [state for state in known if state.kind in (RUNNING, WAITING)]
            if len(known) == len(job) and job:
                result[number] = (active or known)[-1]
            elif not job:
                result[number] = JobState(CANCELLED, "never started")
        return result

    def _handles(self) -> list[list[Handle]]:
        """Return the starts of every job."""
        none: list[list[Handle]] = [[] for _ in self.sweep.jobs]
        path = self.folder / _SUBMISSIONS
        with contextlib.suppress(FileNotFoundError):
            try:
                found = [[Handle.of_json(one) for one in job] for job in read_json(path)["jobs"]]
                if len(found) == len(none):
                    return found
            except FAULTS:
                pass
            raise ValueError(f"{path} must list the starts of {len(none)} jobs")
        return none
