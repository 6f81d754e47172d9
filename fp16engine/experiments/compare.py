"""The study's experiment: one network, the same initial weights and batch order, several precisions.

Writes `summary.json`, a folder per precision (metrics, checkpoint, probabilities per epoch), plots and
`report.html`. The protocol and the theory are those of arXiv 2305.10947.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from .. import backend as backends
from .._version import __version__
from ..data import Dataset
from ..data.collect import collected
from ..doctor import machine
from ..errors import NonFiniteError
from ..nn import Module
from ..numerics.audit import audit_batch, audit_step
from ..numerics.strict import check as hold_to_policy
from ..precision import Precision
from ..reporting.history import SUMMARY
from ..reporting.lock import holds_out
from ..reporting.loggers import check_installed, names_of
from ..reporting.metrics import finished_epochs
from ..reporting.progress import Reporter, reporter
from ..reporting.series import Series
from ..train import TrainConfig, Trainer
from ..train.checkpoint import FILE_NAME as CHECKPOINT
from ..validate import integer, listed
from ..validate import path as checked_path
from . import agreement, classes, speed, verdicts
from .comparison import Comparison, policies
from .report import pages, verdict
from .runs.predictions import PredictingReporter, Predictions, probabilities
from .runs.results_dir import claim, read_run, write_json
from .runs.spec import PROBABILITIES

DEFAULT_PRECISIONS = ("fp16", "fp32", "mp")
_RUN = "run.json"
_SCORE = float | int | None
_RECORD = {
    "precision": str, "status": str, "epochs": int, "parameters": int, "history": list, "audit": dict,
    "seed": int, "precision_choices": dict, "error": str | None, "test_accuracy": _SCORE,
    "train_accuracy": _SCORE, "test_loss": _SCORE, "train_loss": _SCORE, "train_seconds": _SCORE,
    "images_per_second": _SCORE, "peak_memory_bytes": _SCORE, "nonfinite_steps": int, "skipped_steps": int,
}  # fmt: skip


@dataclass(frozen=True)
class _RunContext:
    """What the runs of a comparison go by, and what is watched, which changes no bit of them."""

    settings: Comparison
    dataset: Dataset
    out: Path
    shown: Series
    checkpoint_every: int | None
    log_every: int
    monitor_every: int | None
    nonfinite: dict[str, Any]
    log: tuple[str, ...]

    def folder(self, policy: Precision, seed: int) -> Path:
        """The folder of a run."""
        return self.out / self.settings.run_name(policy.name, seed)


@holds_out
def run(
    model_name: str,
    dataset: Any,
    precisions: Sequence[str] = DEFAULT_PRECISIONS,
    epochs: int = 20,
    batch_size: int = 64,
    lr: float = 0.05,
    *,
    out: str | Path,
    seed: int = 0,
    seeds: int = 1,
    device: str | None = None,
    resume: bool = False,
    progress: bool | Reporter | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 50,
    monitor_every: int | None = None,
    on_nonfinite: str = "skip",
    max_bad_steps: int = 50,
    log: str | Sequence[str] = (),
    strict: bool = False,
    build: Callable[[Dataset, int], Module] | None = None,
    **training: Any,
) -> dict[str, Any]:
    """Train a network under each precision, compare the runs, and write the results to a folder.

    Args:
        model_name: a name that `models.create` knows.
        dataset: images and labels, as in `Trainer.fit`.
        precisions: names of presets.
        epochs: passes over the training images.
        batch_size: images in a step.
        lr: learning rate, finite, > 0.
        out: folder of the results.
        seed: of initial weights, batch order, dropout and rounding: the same under every precision.
        seeds: how many are run, from `seed` on.
        device: "cpu", "cuda", "cuda:1" or "reference"; None means "cpu".
        resume: keep finished runs and continue an unfinished one from its checkpoint, bit for bit; more seeds
            or precisions than before are added.
        progress: True or None shows a bar on a terminal, plain lines elsewhere; False nothing; a `Reporter`
            is told.
        checkpoint_every: as in `Trainer.fit`.
        log_every: as in `Trainer.fit`.
        monitor_every: as in `Trainer.fit`.
        on_nonfinite: as in `Trainer`.
        max_bad_steps: as in `Trainer`.
        log: as in `Trainer.fit`; every run is one of its own there.
        strict: audit a step of every run before the first one starts.
        build: makes the network for a data set and a seed, where it is none of `models.create`; `model_name`
            is what the results call it then. Its attribute `digest`, if any, must be the same on resuming.
        **training: the other fields of `train.TrainConfig`, by name. `update` is for the precisions that
            update FP16 weights in place, `statistics` for those with FP16 running statistics, `convolution`
            for those with stored operands and FP32 accumulators; the others keep theirs.

    A run that ends with `NonFiniteError` is recorded as failed, and the others are done.

    Returns:
        The contents of `summary.json`: device, model, data, `seeds`, `runs` (an entry per precision and
        seed), `tolerance` (delta, Gamma and shares of the fp32 reference against fp16, or against the first
        other precision, with the first seed; None with `tolerance_reason` without fp32), `tolerances` (all of
        them, with a row per epoch), `verdict` (the main one, see `verdict.short`), `verdicts` (in words, one
        per pair), `machine`; of the first seed, `per_class` (accuracies and confusion matrices) and
        `disagreements` (test images on which a precision and the reference choose different classes).

    Raises:
        ValueError: a setting is out of range, `out` already holds results, or there are none to resume.
        TypeError: a setting is of the wrong kind or unknown.
        UnsupportedPrecision: the device cannot honour a precision.
        BackendUnavailable: the device is not there.
        PrecisionViolation: in a strict comparison, a step broke its policy.
        Interrupted: a signal stopped it.
        SaveError: a file could not be written.
        ImportError: the package of a logger is missing.

    Source:
        arXiv 2305.10947 (the protocol).
    """
    dataset = collected(dataset)
    precisions = listed("precisions", precisions, "a sequence of names")
    log = names_of(log)
    integer("log_every", log_every, 1)
    check_installed(log)
    config = TrainConfig(lr=lr, **training)
    settings = Comparison(
        model=model_name,
        data=dataset.name,
        policies=policies(precisions, config),
        epochs=epochs,
        batch_size=batch_size,
        training=config,
        seed=seed,
        seeds=seeds,
        device=device or "cpu",
        train_images=len(dataset.train),
        test_images=len(dataset.test),
        build=build,
    )
    backends.get(settings.device)
    nonfinite: dict[str, Any] = {"on_nonfinite": on_nonfinite, "max_bad_steps": max_bad_steps}
    for policy in settings.policies:  # wrong settings show here, before a folder is made
        settings.trainer(policy, dataset, **nonfinite)
    if strict:
        for policy in settings.policies:
            hold_to_policy(settings.trainer(policy, dataset), *audit_batch(dataset, policy))
            gc.collect()
    out = checked_path("out", out)
    may_change = {"precisions", "seeds"} | ({"epochs"} if config.schedule == "constant" else set())
    claim(out, settings.to_dict(), resume, frozenset(may_change))

    shown = Series(reporter(progress), seeds * len(settings.policies))
    context = _RunContext(
        settings, dataset, out, shown, checkpoint_every, log_every, monitor_every, nonfinite, log
    )
    started = _now()
    runs: list[dict[str, Any]] = []
    tolerances: list[dict[str, Any]] = []
    points: dict[int, agreement.Points] = {}
    for one in settings.all_seeds:
        of_seed = [_run(context, policy, one) for policy in settings.policies]
        folders = [context.folder(policy, one) for policy in settings.policies]
        found, points[one] = agreement.tolerances(of_seed, folders, epochs)
        runs += of_seed
        tolerances += [{**pair, "seed": one} for pair in found]
    speeds = _speeds(context, runs[: len(settings.policies)])
    judged = verdicts.of_runs(runs, points, dataset.test.labels, speeds["rates"])
    summary: dict[str, Any] = {
        "version": __version__,
        "device": settings.device,
        "model": model_name,
        "data": dataset.name,
        "parameters": runs[0]["parameters"],
        "classes": len(dataset.classes),
        "seeds": list(settings.all_seeds),
        "settings": settings.to_dict(),
        "started": started,
        "finished": _now(),
        "runs": runs,
        **agreement.main_tolerance(tolerances, runs),
        "tolerances": tolerances,
        "verdict": verdict.short(judged, seeds),
        "verdicts": judged,
        "per_class": classes.per_class(points[seed], dataset),
        "disagreements": classes.disagreements(points[seed], dataset),
        "data_notes": list(dataset.notes),
        "speed": speeds,
        "machine": machine(settings.device),
        "report": None,
        "report_missing": pages.missing(),
    }
    if summary["report_missing"] is None:
        summary["report"] = pages.REPORT
    write_json(out / SUMMARY, summary)
    if summary["report"]:
        pages.write(summary, agreement.scatters(points[seed]), dataset, out)
    else:
        shown.note(summary["report_missing"])
    return summary


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _run(context: _RunContext, policy: Precision, seed: int) -> dict[str, Any]:
    record = context.folder(policy, seed) / _RUN
    choices = policy.describe(backends.get(context.settings.device))
    if record.exists():
        done = read_run(record, _RECORD)
        _same_convolution(record, done["precision_choices"], choices)
        if done["status"] == "failed" or done["epochs"] >= context.settings.epochs:
            context.shown.skip(f"{policy.name}, seed {seed}: already done, taken from {record}")
            return done
    # a twin is audited, so that the run itself is exactly what `Trainer.fit` gives
    twin = context.settings.trainer(policy, context.dataset, seed)
    audit = audit_step(twin, *audit_batch(context.dataset, policy)).to_dict(policy)
    del twin
    gc.collect()
    result = {
        "precision": policy.name,
        "seed": seed,
        "precision_choices": choices,
        **_train(context, policy, seed, audit),
    }
    write_json(record, result)
    gc.collect()  # the tape's cycles hold arrays, which would count as memory of the next run
    return result


def _same_convolution(record: Path, theirs: dict[str, str], ours: dict[str, str]) -> None:
    """Require the convolution of a finished run to be this one's; it was direct before there was a choice."""
    before = theirs.get("convolution", Precision.get("fp16+direct").describe()["convolution"])
    if before != ours["convolution"]:
        raise ValueError(
            f"resume: convolution must be {before!r} as in {record}, got {ours['convolution']!r}; use "
            "--convolution direct or another folder"
        )


def _train(context: _RunContext, policy: Precision, seed: int, audit: dict[str, Any]) -> dict[str, Any]:
    settings, dataset, shown = context.settings, context.dataset, context.shown
    folder = context.folder(policy, seed)
    trainer = settings.trainer(policy, dataset, seed, **context.nonfinite)
    trainer.state.audit = audit
    watching = PredictingReporter(
        shown,
        lambda: probabilities(trainer, dataset, settings.batch_size),
        Predictions(folder / PROBABILITIES),
    )
    parameters = trainer.model.num_parameters()
    try:
        history = trainer.fit(
            dataset,
            settings.epochs,
            settings.batch_size,
            out=folder,
            resume=(folder / CHECKPOINT).exists(),
            progress=watching,
            checkpoint_every=context.checkpoint_every,
            log_every=context.log_every,
            monitor_every=context.monitor_every,
            log=context.log,
        )
    except NonFiniteError as error:
        shown.note(f"{policy.name}: {error}")
        failure = {**_failed(trainer, str(error), folder), "explanation": error.explanation}
        return {"parameters": parameters, **failure, **_findings(trainer), "audit": trainer.state.audit}
    if history.failure is not None:
        shown.note(f"{policy.name}: {history.failure}")
    return {"parameters": parameters, **history.summary(), **_findings(trainer), "audit": trainer.state.audit}


def _findings(trainer: Trainer) -> dict[str, Any]:
    if trainer.monitor is None:
        return {}
    return {"findings": [finding.to_dict() for finding in trainer.monitor.findings]}


def _failed(trainer: Trainer, error: str, folder: Path) -> dict[str, Any]:
    """Return what is known of a run that broke off: its finished epochs are in metrics.jsonl."""
    history = finished_epochs(folder)
    names = (
        "test_accuracy",
        "train_accuracy",
        "test_loss",
        "train_loss",
        "train_seconds",
        "images_per_second",
    )
    return {
        **dict.fromkeys(names),
        "peak_memory_bytes": None,
        "nonfinite_steps": trainer.nonfinite_steps,
        "skipped_steps": trainer.skipped_steps,
        "epochs": len(history),
        "history": history,
        "status": "failed",
        "error": error,
    }


def _speeds(context: _RunContext, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Measure the finished runs' steps in turn; `reason` says why not."""
    settings = context.settings
    finished = {run["precision"]: run for run in runs if run["status"] == "finished"}
    reason = speed.unmeasured(
        settings.device,
        [settings.batch_size / max(run["images_per_second"], 1e-9) for run in finished.values()],
        sum(run["train_seconds"] for run in finished.values()),
    )
    if reason is not None:
        return {"rates": {}, "reason": reason}
    context.shown.note("speed: steps of every precision in turn")
    made = {
        policy.name: partial(settings.trainer, policy, context.dataset)
        for policy in settings.policies
        if policy.name in finished
    }
    rates = speed.rates(made, context.dataset, settings.batch_size)
    return {"rates": rates, "reason": None if rates else "a step was not finite"}
