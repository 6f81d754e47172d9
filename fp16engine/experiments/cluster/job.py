"""What runs inside a job: its runs one after the other, saved so that the next start of the job continues.

submitit pickles `SweepJob`, a class of this module, with a path and a number. All else is read from the
sweep's folder as JSON.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from ... import backend as backends
from ...reporting.history import EpochRecord
from ...reporting.lock import FolderInUse, hold
from ...reporting.owner import Owner
from ...reporting.progress import PlainLines
from ...train import Interrupted
from ...train.checkpoint import FILE_NAME as CHECKPOINT
from ..reproduce import RUNS, STORE, DatasetCache
from ..runs.estimate import Estimator
from ..runs.runner import RunWorker
from ..runs.spec import RunSpec
from ..runs.store import DONE, FAILED, Store
from . import results
from .sweep import Sweep, cancelled, job_folder, out_of

ATTEMPTS = 5  # starts of a run from one and the same checkpoint
_LOCK_SECONDS = 60.0  # until the process of an earlier start must have ended
_SIGN_SECONDS = 30.0  # between two signs of life within an epoch
REQUEUE = signal.SIGUSR2  # sent before the time of a job is over; submitit's handler puts it into the queue


class SweepJob:
    """A job of a sweep, as submitit calls it."""

    def __call__(self, folder: str, number: int) -> None:
        """Do the runs of job `number` of the sweep in `folder`."""
        with _Signals() as signals:
            _work(Path(folder), number, signals)
        if signals.requeue:  # everything is saved
            signal.raise_signal(REQUEUE)

    def checkpoint(self, folder: str, number: int) -> Any:
        """Return what submitit puts into the queue again: the same, which continues from the files."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, folder, number)


class _Signals:
    """Notes signals, so that a run is saved before the job ends; `Trainer.fit` has its own for SIGTERM."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.requeue = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGTERM, REQUEUE):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self.requeue = self.requeue or number == REQUEUE

    def asked(self) -> str | None:
        """Return the signal that asks for a stop."""
        return self.name


def _work(folder: Path, number: int, signals: _Signals) -> None:
    own = job_folder(folder, number)
    state = results.State(Owner.this())
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_alone(own))
        except FolderInUse as error:
            print(f"nothing done: {error}", file=sys.stderr)
            return
        before = results.state(own)
        try:
            _runs(folder, number, signals, _Shown(own, state if before is None else replace(
                before, owner=state.owner, stopped=None, error=None
            )))  # fmt: skip
        except Interrupted as stopped:
            said = results.state(own) or state
            results.write_state(own, replace(said, stopped=stopped.signal_name))
        except Exception as error:
            results.write_state(own, replace(state, error=f"{type(error).__name__}: {error}"))
            raise


@contextlib.contextmanager
def _alone(own: Path) -> Iterator[None]:
    """Hold the job's folder; an earlier start of the job may be about to end."""
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(hold(own))
            except FolderInUse:
                if time.monotonic() > end:
                    raise
            else:
                yield
                return
        time.sleep(1.0)


def _runs(folder: Path, number: int, signals: _Signals, shown: _Shown) -> None:
    sweep, out, own = Sweep.read(folder), out_of(folder), job_folder(folder, number)
    shown.sign()
    _use_threads(sweep)
    cache = DatasetCache(sweep.data.instead, sweep.data.roots, sweep.data.limit, sweep.data.test_limit)
    specs = [sweep.specs[key] for key in sweep.jobs[number] if not results.published(own, key)]
    for name in sweep.data.names:
        cache.get(name)
    for spec in specs:
        if spec.data_sha256 not in cache.by_fingerprint:
            raise ValueError(f"{spec.data} must be the data that the sweep was made with, got others")
    with Store(own / STORE) as store:
        store.release_all()  # this process holds the folder, so every earlier start has ended
        worker = RunWorker(
            store,
            out / RUNS,
            cache.by_fingerprint,
            sweep.job_device,
            shown,
            Estimator(store, sweep.job_device),
            checkpoint_every=sweep.checkpoint_every,
            asked=signals.asked,
        )
        for spec in specs:
            stop = "--cancel" if cancelled(folder) else signals.name
            if stop is not None:
                raise Interrupted(f"stopped by {stop}", stop)
            _do(own, worker, spec, shown)


def _do(own: Path, worker: RunWorker, spec: RunSpec, shown: _Shown) -> None:
    store = worker.store
    store.add([spec])
    begun = time.time()
    if store.status([spec.key])[spec.key] not in (DONE, FAILED):
        if shown.start(spec, _mark(worker.folder / spec.key)) > ATTEMPTS:
            reason = (
                f"the job ended {ATTEMPTS} times within this run without a new checkpoint: it was killed, "
                "for lack of memory say, or its time is too short for --checkpoint-every"
            )
            store.claim([spec.key])
            store.finish(spec.key, FAILED, {}, {}, [], reason)
        else:
            worker.work([spec])
    row = store.row(spec.key)
    if row is not None and row.status in (DONE, FAILED):
        results.publish(own, spec.key, row, time.time() - begun)


def _mark(folder: Path) -> int | None:
    """Return what tells one checkpoint from the next."""
    try:
        return (folder / CHECKPOINT).stat().st_mtime_ns
    except OSError:
        return None


def _use_threads(sweep: Sweep) -> None:
    """Use the threads that were asked for, else the processors that Slurm gives the job."""
    backend: Any = backends.get(sweep.job_device)
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    count = sweep.threads or (int(granted) if granted.isdecimal() else None)
    if count and backend.capabilities.threads:
        backend.set_num_threads(count)


class _Shown(PlainLines):
    """Lines for the job's log, and signs of life for those who look at the sweep."""

    def __init__(self, own: Path, state: results.State) -> None:
        super().__init__()
        self._own, self._state = own, state
        self._signed = 0.0

    def start(self, spec: RunSpec, mark: int | None) -> int:
        """Say that a run begins; return how often it began from this checkpoint."""
        again = (self._state.key, self._state.mark) == (spec.key, mark)
        self._state = replace(
            self._state,
            key=spec.key,
            mark=mark,
            attempt=self._state.attempt + 1 if again else 1,
            epoch=0,
            epochs=spec.epochs,
            begun=time.time(),
        )
        self.sign()
        return self._state.attempt

    def sign(self) -> None:
        """Write the state."""
        results.write_state(self._own, self._state)
        self._signed = time.monotonic()

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        """See Reporter."""
        super().step(epoch, step, loss, images_per_second)
        if time.monotonic() - self._signed >= _SIGN_SECONDS:
            self.sign()

    def epoch(self, record: EpochRecord) -> None:
        """See Reporter."""
        super().epoch(record)
        self._state = replace(self._state, epoch=record.epoch)
        self.sign()
