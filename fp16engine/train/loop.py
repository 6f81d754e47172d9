"""The epoch loop behind `Trainer.fit`: data order, bookkeeping, checkpoints, resuming, signals."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .._version import __version__
from ..errors import CheckpointError, NonFiniteError
from ..numerics.audit import audit_quietly
from ..numerics.audit_log import AuditLog
from ..numerics.monitor import Monitor, Sample
from ..reporting import loggers, metrics
from ..reporting.files import make_folder, write_atomically
from ..reporting.history import SUMMARY, EpochSums, History, json_number
from ..reporting.interrupt import Interrupted, InterruptGuard
from ..reporting.lock import hold
from ..reporting.progress import Reporter, reporter
from . import checkpoint
from . import schedule as schedules
from .batches import labelled
from .captured_epochs import CapturedEpochs
from .checkpoint import Checkpoint, RunState
from .checkpoint_values import first_undefined
from .evaluator import BATCH as EVALUATION_BATCH
from .functions import stored
from .notes import account, own_decays
from .outcome import failure
from .ranks import continue_with, require_same
from .source import ImageSource

if TYPE_CHECKING:
    from ..data import Dataset
    from ..data.encoded import EncodedText
    from .counters import StepResult
    from .trainer import Trainer

    Corpus = Dataset | EncodedText

EXPLANATION_NAME = "nonfinite.json"
TICK_SECONDS = 0.25  # how long replayed steps run ahead before their outcomes are read and shown


@dataclass(frozen=True)
class Options:
    """The checked arguments of `Trainer.fit`."""

    epochs: int
    batch_size: int
    out: str | os.PathLike[str] | None
    resume: bool
    progress: bool | Reporter | None
    checkpoint_every: int | None
    log_every: int
    log: tuple[str, ...]
    stop: Callable[[], str | None] | None = None
    monitor_every: int | None = None


def fit(trainer: Trainer, dataset: Any, options: Options) -> History:
    """See `Trainer.fit`."""
    corpus = trainer.objective.corpus(dataset)
    with hold(options.out if trainer.state.parallel.rank == 0 else None):
        return _fit(trainer, corpus, options, () if corpus is dataset else corpus.notes)


def _fit(trainer: Trainer, dataset: Corpus, options: Options, notes: Sequence[str]) -> History:
    out = None if options.out is None else Path(options.out)
    parallel, notes = trainer.state.parallel, list(notes)
    if out is None and (options.resume or options.checkpoint_every or options.log):
        raise ValueError("out must be a folder with resume, checkpoint_every, log or tensorboard, got None")
    loggers.check_installed(options.log)
    saved = Checkpoint.load(_existing(out)) if options.resume else None
    if saved is not None and (changes := continue_with(trainer, saved)) is not None:
        notes.append(changes)
    feed = trainer.feed(dataset, options.batch_size * trainer.config.accumulate)
    if saved is not None:
        state = _resumed(trainer, dataset, options, feed.steps, saved)
    else:
        if out is not None and parallel.rank == 0:
            _prepare(out)
        trainer.state.begin_run()
        known = out is not None or parallel.size > 1
        state = RunState(_run_settings(dataset, options, known), 0, 0, EpochSums(), History())
    require_same(trainer, state.settings)
    state.images = ImageSource.of(dataset)
    state.history.run = _describe(trainer, dataset, options)
    if options.monitor_every is not None:
        trainer.monitor = Monitor(every=options.monitor_every)
    if out is not None and trainer.state.audit is None:
        trainer.state.audit = _audit(trainer, feed)
    if parallel.rank:
        options, out = replace(options, progress=False), None
    return _Run(trainer, feed, options, out, state, notes).go()


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        trainer: Trainer,
        feed: Any,
        options: Options,
        out: Path | None,
        state: RunState,
        notes: list[str],
    ) -> None:
        self.notes = notes
        self.trainer, self.feed, self.options, self.out, self.state = trainer, feed, options, out, state
        self.steps_per_epoch = feed.steps
        self.reporter = reporter(options.progress, feed.unit)
        self.guard = InterruptGuard(enabled=options.out is not None)
        # batches of an evaluation are not the same for all ranks, which stop together
        self.between = self.stop_if_asked if trainer.state.parallel.size == 1 else None
        self.metrics: metrics.MetricsWriter | None = None
        self.audits = None if out is None else AuditLog(trainer.state)
        self.captured = CapturedEpochs(trainer, feed, self.audits) if trainer.capture else None
        trainer.run, trainer.ending = state, None

    def go(self) -> History:
        """Train what is left of the run."""
        trainer, options, history = self.trainer, self.options, self.state.history
        total = max(options.epochs * self.steps_per_epoch, 1)
        trainer.set_total_steps(total)
        trainer.begin_epoch(max(0, min(self.state.epoch, options.epochs - 1)), options.epochs)
        with ExitStack() as stack:
            stack.enter_context(self.guard)
            if self.out is not None:
                position = (trainer.step_count, self.state.epoch) if options.resume else None
                if not options.resume:
                    self.save()
                config = {"epochs": options.epochs, **history.run}
                chosen = loggers.Loggers(options.log, self.out, config, position and position[0])
                self.metrics = stack.enter_context(metrics.MetricsWriter(self.out, position, chosen))
            self.reporter.begin(self.title(), options.epochs, total, trainer.step_count)
            stack.callback(self.reporter.end)
            if decays := own_decays(trainer.config.weight_decay, trainer.model):
                self.notes.append(decays)
            for note in self.notes:
                self.reporter.note(note)
            over = self.state.epoch >= options.epochs
            for callback in trainer.callbacks:
                callback.on_start(trainer)
            while self.state.epoch < options.epochs and trainer.ending is None:
                self.epoch()
            if trainer.ending is not None:
                self.reporter.note(f"ended after epoch {self.state.epoch}: {trainer.ending}")
                history.run["ended"] = trainer.ending
            for callback in trainer.callbacks:
                callback.on_end(trainer)
            history.views_accuracy = self.views_accuracy()
            for note in account(trainer):
                self.reporter.note(note)
            if self.captured is not None:
                self.reporter.note(self.captured.note())
                history.run["capture"] = self.captured.summary()
        history.images = len(self.feed.train) * len(history.epochs)
        if history.epochs:
            accuracy = history.epochs[-1].test_accuracy
            if over and first_undefined(trainer.model.state_dict()):  # whatever the history says
                accuracy, _ = trainer.evaluator.score(self.feed.test, EVALUATION_BATCH, lambda: None)
            history.failure = failure(trainer.step_count, trainer.applied_steps, accuracy)
        if self.out is not None:
            write_atomically(
                self.out / SUMMARY,
                json.dumps(history.summary(), indent=1, allow_nan=False).encode() + b"\n",
            )
        return history

    def epoch(self) -> None:
        """Train the rest of one epoch, evaluate, record, save."""
        trainer, state, history = self.trainer, self.state, self.state.history
        trainer.begin_epoch(state.epoch, self.options.epochs)
        order = self.feed.order(trainer.seed, state.epoch)
        backends.get(trainer.device).reset_peak()
        while state.step < self.steps_per_epoch:
            if not self.stretch(order):
                self.step(order)
        if state.epoch + 1 == self.options.epochs:
            trainer.state.end_run()
        peak = int(backends.get(trainer.device).memory()["peak"])
        history.peak_memory_bytes = max(history.peak_memory_bytes, peak)
        lr = trainer.optimizer.lr
        accuracy, loss = trainer.evaluator.score(
            self.feed.test, max(EVALUATION_BATCH, self.options.batch_size), self.between
        )
        scale = None if trainer.scaler is None else trainer.scaler.scale
        record = state.sums.record(state.epoch + 1, loss, accuracy, scale, lr)
        history.epochs.append(record)
        state.epoch, state.step, state.sums = state.epoch + 1, 0, EpochSums()
        self.reporter.epoch(record)
        for callback in trainer.callbacks:
            callback.on_epoch(trainer, record)
        trainer.ending = trainer.state.parallel.agreed(trainer.ending)
        if self.metrics is not None:
            self.metrics.write({"kind": "epoch", "step": trainer.step_count, **record.to_json()})
            self.save()
        if state.epoch < self.options.epochs and trainer.ending is None:
            self.stop_if_asked()

    def views_accuracy(self) -> float | None:
        """The finished network's accuracy over the test-time views that the run asks for."""
        refinements = self.trainer.config.refinements
        if refinements is None or refinements.views == "none" or not self.state.history.epochs:
            return None
        size = max(EVALUATION_BATCH, self.options.batch_size)
        return self.trainer.evaluator.score_views(self.feed.test, size, refinements.views, self.between)

    def step(self, order: Any) -> None:
        """One step, its sums, and whatever is due after it."""
        trainer = self.trainer
        start = time.perf_counter()
        inputs, labels = self.feed.batch(order, self.state.step)
        before = trainer.skipped_steps, trainer.nonfinite_steps
        looking = trainer.monitor is not None and trainer.monitor.due(trainer.state)
        result, correct = self.train_batch(inputs, labels)
        self.count(result, correct, labelled(labels), time.perf_counter() - start, before, looking)
        self.stop_if_asked()

    def stretch(self, order: Any) -> bool:
        """Replay the captured step until something is due; False where the next step is not captured."""
        captured, trainer = self.captured, self.trainer
        if captured is None or not captured.takes(self.state.step):
            return False
        start = time.perf_counter()
        captured.begin(order, self.state.step)
        steps = captured.most(self.state.step)
        every = self.options.checkpoint_every
        if every is not None:
            steps = min(steps, every - trainer.step_count % every)
        for done in range(1, steps + 1):  # noqa: B007
            captured.step.replay()
            if time.perf_counter() - start >= TICK_SECONDS or self.guard.requested or captured.failed:
                break
        captured.step.wait()
        seconds = (time.perf_counter() - start) / done
        before = trainer.skipped_steps, trainer.nonfinite_steps
        for result, correct in captured.step.outcomes():
            self.count(result, correct, self.options.batch_size, seconds, before)
            before = trainer.skipped_steps, trainer.nonfinite_steps
        self.stop_if_asked()
        return True

    def count(
        self,
        result: StepResult,
        correct: int,
        count: int,
        seconds: float,
        before: tuple[int, int],
        looking: bool = False,
    ) -> None:
        """What a step adds to the epoch's sums, and the rows and checkpoints that are due after it."""
        trainer, state, sums = self.trainer, self.state, self.state.sums
        sums.seconds += seconds
        sums.images += count
        sums.skipped += trainer.skipped_steps - before[0]
        sums.nonfinite += trainer.nonfinite_steps - before[1]
        if np.isfinite(result.loss):
            sums.loss += result.loss * count
            sums.correct += correct
            sums.counted += count
        state.step += 1
        self.reporter.step(state.epoch + 1, trainer.step_count, result.loss, sums.images / sums.seconds)
        if self.metrics is not None and trainer.step_count % self.options.log_every == 0:
            self.metrics.write(
                {
                    "kind": "step",
                    "step": trainer.step_count,
                    "epoch": state.epoch + 1,
                    "loss": json_number(result.loss),
                    "applied": result.applied,
                    "reason": result.reason,
                    "lr": trainer.optimizer.lr,
                    "loss_scale": None if trainer.scaler is None else trainer.scaler.scale,
                }
            )
        if looking and trainer.monitor is not None:
            self.sample(trainer.monitor.samples[-1])
        for callback in trainer.callbacks:
            callback.on_step(trainer, result)
        every = self.options.checkpoint_every
        if every is not None and trainer.step_count % every == 0:
            self.save()

    def train_batch(self, inputs: Any, labels: np.ndarray) -> tuple[StepResult, int]:
        """The trainer's, with the explanation of a step that ends the run kept next to its results."""
        try:
            with nullcontext() if self.audits is None else self.audits.step():
                return self.trainer.train_batch(inputs, labels)
        except NonFiniteError as error:
            if self.out is not None and error.explanation is not None:
                text = json.dumps(error.explanation, indent=1, allow_nan=False)
                write_atomically(self.out / EXPLANATION_NAME, text.encode() + b"\n")
            raise

    def sample(self, sample: Sample) -> None:
        """What the monitor saw of this step, to the metrics and to a reporter that shows it."""
        if self.metrics is not None:
            self.metrics.write({"kind": "ranges", "epoch": self.state.epoch + 1, **sample.to_dict()})
        show = getattr(self.reporter, "sample", None)  # not every reporter has it
        if show is not None:
            show(sample)

    def save(self) -> None:
        """A checkpoint of this moment; the metrics it counts reach the disk first."""
        if self.out is not None:
            if self.metrics is not None:
                self.metrics.sync()
            checkpoint.save(self.out, self.trainer.state, self.state)

    def stop_if_asked(self) -> None:
        """After a signal, or when `stop` says so: save and raise Interrupted."""
        reason = self.guard.requested
        if reason is None and self.options.stop is not None:
            reason = self.options.stop()
        reason = self.trainer.state.parallel.agreed(reason)
        if reason is None:
            return
        self.save()
        step = self.trainer.step_count
        out = self.options.out
        how = "continue with --resume (in Python: resume=True)"
        kept = "" if out is None else f"; everything is saved in {out}, {how}"
        raise Interrupted(f"stopped by {reason} after step {step}{kept}", reason, step)

    def ranks(self) -> str:
        """Who trains, for the title; nothing of a process alone."""
        parallel = self.trainer.state.parallel
        return "" if parallel.size == 1 else f"{parallel}, "

    def title(self) -> str:
        """One line on what is trained."""
        run = self.state.history.run
        resumed = f", resumed after step {self.trainer.step_count}" if self.options.resume else ""
        return (
            f"{run['model']} ({run['parameters']:,} parameters) on {run['data']}, "
            f"{run['precision']} on {run['device']}, {self.ranks()}"
            f"{self.feed}{resumed}"
        )


def _audit(trainer: Trainer, feed: Any) -> dict[str, Any]:
    """What a step of this trainer runs in, for its checkpoints; the trainer stays bit for bit what it was.

    Without the size of the kernels' work buffers, which depends on what ran before.
    """
    found = audit_quietly(trainer, *feed.batch(feed.order(trainer.seed, 0), 0)).to_dict(trainer.precision)
    del found["scratch_bytes"]
    return found


def _existing(out: Path | None) -> Path:
    assert out is not None
    if not (out / checkpoint.FILE_NAME).exists():
        raise CheckpointError(f"resume: {out} must hold {checkpoint.FILE_NAME}, got a folder without it")
    return out


def _prepare(out: Path) -> None:
    """Make the directory; ValueError when it holds a run already, so nothing is ever overwritten."""
    for name in (checkpoint.FILE_NAME, metrics.FILE_NAME, SUMMARY):
        if (out / name).exists():
            raise ValueError(
                f"out must be a folder without a run, got {out} with {name}; continue it with --resume "
                "(in Python: resume=True), or name another folder"
            )
    make_folder(out)


def _resumed(
    trainer: Trainer, dataset: Corpus, options: Options, per_epoch: int, saved: Checkpoint
) -> RunState:
    """Restore the trainer; CheckpointError naming what differs between the saved run and this one."""
    saved.check(trainer)
    ours = checkpoint.plain(_run_settings(dataset, options, fingerprint=True))
    theirs = saved.body["run"]
    later = {"data_sha256": None, "epochs": None}
    saved.refuse(checkpoint.first_difference({**theirs, **later}, {**ours, **later}))
    if theirs.get("data_sha256") != ours["data_sha256"]:
        saved.refuse(f"data: the samples of {dataset.name!r} are not the ones it was trained on")
    planned = trainer.precision.plan is not None and trainer.precision.plan.late is not None
    schedule = trainer.config.schedule
    laid_out = trainer.precision.name if planned else f"{stored(schedule)} schedule"
    if trainer.state.lookahead is not None and not planned:
        laid_out = "lookahead"
    if (planned or trainer.state.lookahead is not None or schedules.needs_total(schedule)) and theirs.get(
        "epochs"
    ) != ours["epochs"]:
        saved.refuse(
            f"epochs: the {laid_out} was laid out for {theirs.get('epochs')}, this run has {options.epochs}"
        )
    step = saved.body["step"]
    if saved.epoch + (step > 0) > options.epochs:
        saved.refuse(f"epochs: it is in epoch {saved.epoch + (step > 0)}, this run has {options.epochs}")
    if not 0 <= step <= per_epoch or saved.step != saved.epoch * per_epoch + step:
        raise CheckpointError(
            f"{saved.path} is damaged: its position must agree with its step count, got another"
        )
    if saved.body["device"].partition(":")[0] != trainer.device.partition(":")[0]:
        warnings.warn(
            f"this run was started on {saved.body['device']!r}: on {trainer.device!r} its bits will differ",
            stacklevel=5,
        )
    elif "libraries" in saved.body and (
        other := checkpoint.first_difference(saved.body["libraries"], checkpoint.libraries(trainer.device))
    ):
        warnings.warn(f"{other}: from here on the bits of this run may differ", stacklevel=4)
    state = saved.restore(trainer)
    state.settings = ours
    return state


def _run_settings(dataset: Corpus, options: Options, fingerprint: bool) -> dict[str, Any]:
    return {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "data": {"name": dataset.name, "train": len(dataset.train), "test": len(dataset.test)},
        "data_sha256": data_fingerprint(dataset) if fingerprint else None,
    }


def data_fingerprint(dataset: Corpus) -> str:
    """The SHA-256 of a data set's images and labels; its name does not count."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for array in split.arrays():
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _describe(trainer: Trainer, dataset: Corpus, options: Options) -> dict[str, Any]:
    model = checkpoint.describe_model(trainer.model)
    return {
        "version": __version__,
        "device": trainer.device,
        "model": (model["config"] or {}).get("name", model["class"]),
        "data": dataset.name,
        "parameters": model["parameters"],
        "precision": trainer.precision.name,
        "precision_choices": trainer.precision.describe(backends.get(trainer.device)),
        "batch_size": options.batch_size,
        "seed": trainer.seed,
        **({} if (ranks := trainer.state.parallel.record()) is None else {"distributed": ranks}),
        **checkpoint.plain(trainer.state.record()),
    }
