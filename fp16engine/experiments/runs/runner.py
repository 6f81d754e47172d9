"""Does the runs of a plan: claims them in a shared store, trains, records, resumes after an interruption."""

from __future__ import annotations

import contextlib
import gc
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import backend as backends
from ...doctor import machine
from ...errors import CheckpointError, NonFiniteError
from ...reporting.history import json_number
from ...reporting.metrics import finished_epochs, losses
from ...reporting.progress import Reporter, duration
from ...train import Interrupted, SaveError, Trainer
from ...train.batches import DeviceSplit
from ...train.checkpoint import FILE_NAME as CHECKPOINT
from ..report import heatmaps
from .estimate import Estimator, Rate, make_trainer
from .predictions import PredictingReporter, Predictions, probabilities
from .spec import PROBABILITIES, RunSpec
from .store import DONE, FAILED, PENDING, RUNNING, ClaimLost, Store, StoreError

if TYPE_CHECKING:
    from ...data import Dataset
    from ...reporting.history import EpochRecord, History

BEAT_SECONDS = 20.0
BUDGET_SPENT = "the end of the time given (--budget)"
_TAKEN_OVER = "another process, which has taken the run over,"
_LOSSES = 50  # of training steps, kept to show how a run went
_INFERENCE_IMAGES = 1024  # timed after training, at most
_FIGURES = (
    "parameters", "test_accuracy", "train_accuracy", "test_loss", "train_loss",
    "nonfinite_steps", "skipped_steps", "epochs",
)  # fmt: skip
_MEASURED = ("train_seconds", "images_per_second", "peak_memory_bytes")


@dataclass
class Outcome:
    """What `work` did: how many runs it finished, how many of them failed, and what remains."""

    done: int = 0
    failed: int = 0
    elsewhere: int = 0  # being done by other processes
    left: int = 0
    out_of_time: bool = False


@dataclass(frozen=True)
class RunWorker:
    """Where and how runs are done.

    `datasets` holds a data set per fingerprint, `folder` the folders of unfinished runs. `budget` are the
    seconds that one call of `work` may take, None without limit. `asked` is asked after every step; what it
    returns, in words, ends the work as a signal does.
    """

    store: Store
    folder: Path
    datasets: Mapping[str, Dataset]
    device: str
    shown: Reporter
    estimator: Estimator
    budget: float | None = None
    checkpoint_every: int | None = None
    asked: Callable[[], str | None] = lambda: None
    started: float = field(default_factory=time.monotonic)

    def work(self, specs: Sequence[RunSpec]) -> Outcome:
        """Do what is not done of these runs, as long as the budget lasts.

        A run that fails is recorded with its reason and the others continue. Raises Interrupted after a
        signal (the run is saved and given back), and SaveError when the disk refuses.
        """
        by_key = {spec.key: spec for spec in specs}
        self.store.add(by_key.values())
        self._tidy(by_key)
        outcome = Outcome()
        while (key := self.store.claim(self._open(by_key))) is not None:
            try:
                self._announce(by_key[key], by_key)
                status = self._do(by_key[key])
            except Interrupted as stopped:
                self.store.release(key)
                if stopped.signal_name == _TAKEN_OVER:
                    continue
                if stopped.signal_name == BUDGET_SPENT:
                    break
                raise Interrupted(
                    f"stopped by {stopped.signal_name} within {by_key[key].label}; everything is saved, the "
                    "same command continues",
                    stopped.signal_name,
                    stopped.step,
                ) from None
            except BaseException:
                with contextlib.suppress(SaveError):  # it is pending again when the store is closed
                    self.store.release(key)
                raise
            outcome.done += 1
            outcome.failed += status == FAILED
        after = list(self.store.status(list(by_key)).values())
        outcome.elsewhere, outcome.left = after.count(RUNNING), after.count(PENDING)
        outcome.out_of_time = bool(outcome.left) and self._time_left() <= 0
        return outcome

    def retry(self, specs: Sequence[RunSpec]) -> None:
        """Have failed runs done again, from their beginning."""
        retry(self.store, self.folder, specs)

    def seconds(self, specs: Sequence[RunSpec]) -> float:
        """Estimate how long what is not done of these runs takes, one after the other."""
        status = self.store.status([spec.key for spec in specs])
        return sum(self._estimate(spec) for spec in specs if status[spec.key] == PENDING)

    def _announce(self, spec: RunSpec, specs: Mapping[str, RunSpec]) -> None:
        """Say which run begins, how long it takes, and how long all that are left do; by the same rates."""
        own = self._estimate(spec)
        status = list(self.store.status(list(specs)).values())
        number = status.count(DONE) + status.count(FAILED) + 1
        left = own + self.seconds(list(specs.values()))
        about = f": about {duration(own)}; {duration(left)} for all left" if own else ""
        self.shown.note(f"run {number} of {len(specs)}: {spec.label}{about}")

    def _estimate(self, spec: RunSpec) -> float:
        rate = self.estimator.known(spec, self.datasets[spec.data_sha256])
        row = self.store.row(spec.key)
        return 0.0 if rate is None else rate.seconds(spec, len(row.history) if row else 0)

    def _time_left(self) -> float:
        if self.budget is None:
            return float("inf")
        return self.budget - (time.monotonic() - self.started)

    def _open(self, specs: Mapping[str, RunSpec]) -> list[str]:
        """The runs to claim from, in order: first those that fit into what is left of the budget."""
        left = self._time_left()
        if left <= 0:
            return []
        finished = (DONE, FAILED)
        status = self.store.status(list(specs))
        keys = [key for key in specs if status[key] not in finished]
        if self.budget is None:
            return keys
        return sorted(keys, key=lambda key: self._estimate(specs[key]) > left)

    def _tidy(self, keys: Mapping[str, RunSpec]) -> None:
        """Remove what a kill between the record of a result and the removal of its checkpoint left behind."""
        for key, status in self.store.status(list(keys)).items():
            if status == DONE:
                _remove_checkpoint(self.folder / key)

    def _do(self, spec: RunSpec) -> str:
        """Do a claimed run and enter its result; return the status it got."""
        dataset, folder = self.datasets[spec.data_sha256], self.folder / spec.key
        with _Heartbeat(self.store, spec.key) as heart:
            try:
                result = self._train(spec, dataset, folder, heart)
            except (Interrupted, OSError):  # the disk's fault is not the run's
                raise
            except Exception as error:  # whatever it is: the other runs continue and this one says why
                result = Result(FAILED, reason=f"{type(error).__name__}: {error}")
        measured = {**result.measured, "machine": machine(self.device)}
        with contextlib.suppress(ClaimLost):
            self.store.finish(
                spec.key, result.status, result.figures, measured, result.history, result.reason
            )
        if result.status == DONE:
            _remove_checkpoint(folder)
            self._learn(spec, dataset, measured)
        else:
            self.shown.note(f"{spec.label} failed: {result.reason}")
        gc.collect()  # the tape's cycles hold arrays, which would count as memory of the next run
        return result.status

    def _train(self, spec: RunSpec, dataset: Dataset, folder: Path, heart: _Heartbeat) -> Result:
        trainer = make_trainer(spec, dataset, self.device)
        shown: Reporter = _Recording(self.shown, lambda record: self.store.record_epoch(spec.key, record))
        if PROBABILITIES in spec.keep:
            store = Predictions(folder / PROBABILITIES)
            shown = PredictingReporter(shown, lambda: probabilities(trainer, dataset, spec.batch_size), store)

        def stop() -> str | None:
            if heart.lost:
                return _TAKEN_OVER
            return BUDGET_SPENT if self._time_left() <= 0 else self.asked()

        def fit(resume: bool) -> History:
            if not resume:
                shutil.rmtree(folder, ignore_errors=True)
            return trainer.fit(
                dataset,
                spec.epochs,
                spec.batch_size,
                out=folder,
                resume=resume,
                progress=shown,
                checkpoint_every=self.checkpoint_every,
                log_every=log_every,
                stop=stop,
                **spec.fitting,
            )

        parameters = trainer.model.num_parameters()
        log_every = max(1, spec.epochs * -(-spec.train_images // spec.batch_size) // _LOSSES)
        try:
            try:
                history = fit((folder / CHECKPOINT).exists())
            except CheckpointError as error:
                self.shown.note(f"{spec.label}: begun again, because {error}")
                trainer = make_trainer(spec, dataset, self.device)
                history = fit(False)
        except NonFiniteError as error:
            return Result(
                FAILED, {"parameters": parameters, **_collapsed(trainer, dataset)}, {},
                finished_epochs(folder), str(error),
            )  # fmt: skip
        summary = history.summary()
        measured = {name: summary[name] for name in _MEASURED}
        measured["inference_images_per_second"] = _inference_rate(trainer, dataset, spec.batch_size)
        figures = {**{name: summary[name] for name in _FIGURES}, "losses": losses(folder)}
        figures["convolution"] = trainer.precision.convolution_on(backends.get(self.device))
        if trainer.monitor is not None:
            figures["lost_updates"] = heatmaps.lost_share(heatmaps.samples(folder))
        status = DONE if history.failure is None else FAILED
        return Result(status, figures, measured, summary["history"], history.failure)

    def _learn(self, spec: RunSpec, dataset: Dataset, measured: Mapping[str, Any]) -> None:
        rate, inference = measured["images_per_second"], measured["inference_images_per_second"]
        if rate and inference:
            self.estimator.learn(spec, dataset, Rate(1 / rate, 1 / inference))


def retry(store: Store, folder: Path, specs: Sequence[RunSpec]) -> None:
    """Make failed runs pending, and remove what they left in `folder`."""
    for key, status in store.status([spec.key for spec in specs]).items():
        if status == FAILED:
            shutil.rmtree(folder / key, ignore_errors=True)
            store.retry([key])


@dataclass(frozen=True)
class Result:
    """What a run came to: `figures` follow from its spec, `measured` from the machine too."""

    status: str
    figures: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    reason: str | None = None


class _Heartbeat:
    """Says in the background that a run is still being done; `lost` when another process took it over."""

    def __init__(self, store: Store, key: str) -> None:
        self.lost = False
        self._path, self._owner, self._key = store.path, store.owner, key
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> _Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            # a connection belongs to one thread, and one that is opened for a moment leaves nothing behind
            with (
                contextlib.suppress(StoreError, SaveError),
                Store(self._path, self._owner) as own,
            ):
                self.lost = not own.beat(self._key)


class _Recording:
    """A `Reporter` that enters every finished epoch into the store and passes everything on."""

    def __init__(self, inner: Reporter, record: Callable[[dict[str, Any]], None]) -> None:
        self._inner = inner
        self._record = record
        self.begin, self.step, self.note, self.end = inner.begin, inner.step, inner.note, inner.end

    def epoch(self, record: EpochRecord) -> None:
        """Enter the epoch, then see Reporter."""
        self._record(record.to_json())
        self._inner.epoch(record)


def _collapsed(trainer: Trainer, dataset: Dataset) -> dict[str, Any]:
    """Return the figures of a run that broke off: its weights as they are now, finite or not."""
    with np.errstate(all="ignore"):
        accuracy, loss = trainer.evaluate(dataset)
    return {
        "test_accuracy": json_number(accuracy),
        "test_loss": json_number(loss),
        "nonfinite_steps": trainer.nonfinite_steps,
        "skipped_steps": trainer.skipped_steps,
        "steps": trainer.step_count,
    }


def _inference_rate(trainer: Trainer, dataset: Dataset, batch_size: int) -> float:
    """Return how many test images per second the trained network classifies, after one batch of warm-up."""
    dtype = trainer.precision.storage
    first, data = (
        DeviceSplit.of(dataset.limit(count), "test", dtype, trainer.device)
        for count in (min(batch_size, _INFERENCE_IMAGES), _INFERENCE_IMAGES)
    )
    trainer.evaluator.score(first, batch_size)
    start = time.perf_counter()
    trainer.evaluator.score(data, batch_size)
    return len(data) / (time.perf_counter() - start)


def _remove_checkpoint(folder: Path) -> None:
    """Remove what only an unfinished run needs, as far as the disk lets us; what is kept next to it stays."""
    for path in folder.glob("checkpoint*"):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
