"""The study's experiment: one network, the same initial weights and batch order, several precisions.

Writes `summary.json`, a folder per precision (metrics, checkpoint, probabilities per epoch), plots and
`report.html`. The protocol and the theory are those of arXiv 2305.10947.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import backend as backends
from .. import models
from .._version import __version__
from ..data.augment import Augmentation
from ..doctor import machine
from ..errors import NonFiniteError
from ..numerics.audit import audit_step
from ..numerics.strict import check as hold_to_policy
from ..numerics.tolerance import analyse, delta, gamma_sound
from ..precision import Precision
from ..reporting.lock import holds_out
from ..reporting.metrics import finished_epochs
from ..reporting.progress import Reporter, reporter
from ..reporting.series import Series
from ..train import Trainer
from ..validate import integer, must_be
from . import seeds as over_seeds
from . import speed
from .report import pages as reports
from .report import verdict
from .runs.predictions import PredictingReporter, Predictions, probabilities
from .runs.results_dir import SUMMARY, claim, read_run, write_json

if TYPE_CHECKING:
    from ..data import Dataset

DEFAULT_PRECISIONS = ("fp16", "fp32", "mp")
REFERENCE = "fp32"
AUDIT_BATCH = 4
_RUN = "run.json"
_SCORE = float | int | None
_RECORD = {
    "precision": str, "status": str, "epochs": int, "parameters": int, "history": list, "audit": dict,
    "seed": int, "precision_choices": dict, "error": str | None, "test_accuracy": _SCORE,
    "train_accuracy": _SCORE, "test_loss": _SCORE, "train_loss": _SCORE, "train_seconds": _SCORE,
    "images_per_second": _SCORE, "peak_memory_bytes": _SCORE, "nonfinite_steps": int, "skipped_steps": int,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What all runs of a comparison share."""

    model: str
    data: str
    precisions: tuple[str, ...]
    epochs: int
    batch_size: int
    lr: float
    momentum: float | None
    optimizer: str
    eps: float | None
    weight_decay: float
    nesterov: bool
    state: str
    update: str | None
    statistics: str | None
    clip_norm: float | None
    schedule: str
    augment: dict[str, Any] | None
    label_smoothing: float
    seed: int
    seeds: int
    device: str
    train_images: int
    test_images: int


@dataclass(frozen=True)
class _Looking:
    """What is watched during the runs; no part of their settings, since it changes no bit of them."""

    monitor_every: int | None
    on_nonfinite: str


@holds_out
def run(
    model_name: str,
    dataset: Dataset,
    precisions: Sequence[str] = DEFAULT_PRECISIONS,
    epochs: int = 20,
    batch_size: int = 64,
    lr: float = 0.05,
    *,
    out: str | Path,
    momentum: float | None = None,
    optimizer: str = "sgd",
    eps: float | None = None,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    state: str = "native",
    update: str | None = None,
    statistics: str | None = None,
    clip_norm: float | None = None,
    schedule: str = "constant",
    augment: str | Augmentation | None = None,
    label_smoothing: float = 0.0,
    seed: int = 0,
    seeds: int = 1,
    device: str | None = None,
    resume: bool = False,
    progress: bool | Reporter | None = None,
    checkpoint_every: int | None = None,
    monitor_every: int | None = None,
    on_nonfinite: str = "skip",
    strict: bool = False,
) -> dict[str, Any]:
    """Train `model_name` on `dataset` under each precision, compare the runs, and write the results to `out`.

    `momentum` None is 0.9 for sgd; the other optimizers have none. `update` is for the precisions that update
    FP16 weights in place, `statistics` for those with FP16 running statistics; the others keep theirs.
    Each run is `Trainer.fit`; initial weights and batch order follow from the seed, the same under every
    precision. `seeds` of them are run, from `seed` on. The runs follow one another. A run that ends with
    `NonFiniteError` is recorded as failed and the others go on. With `resume`, finished runs are kept and an
    unfinished one goes on from its checkpoint, bit for bit; more seeds or precisions than before are added.
    `monitor_every` and `on_nonfinite` are those of `Trainer.fit` and `Trainer`; `strict` audits a step of
    every run before the first one starts.

    Returns the contents of `summary.json`: device, model, data, `seeds`, `runs` (an entry per precision and
    seed), `tolerance` (delta, Gamma and shares of the fp32 reference against fp16, or against the first other
    precision, with the first seed; None with `tolerance_reason` without fp32), `tolerances` (all of them,
    with a row per epoch), `verdict` (the main one, see `verdict.short`), `verdicts` (in words, one per
    pair), `machine`.

    Raises ValueError for wrong settings or an `out` that already holds results, `UnsupportedPrecision`,
    `BackendUnavailable`, `PrecisionViolation` in a strict comparison, and what `Trainer.fit` raises.
    """
    policies = _policies(precisions, update, statistics)
    if momentum is None and optimizer == "sgd":
        momentum = 0.9
    augmentation = Augmentation.get(augment)
    settings = Settings(
        model=model_name,
        data=dataset.name,
        precisions=tuple(policy.name for policy in policies),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        momentum=momentum,
        optimizer=optimizer,
        eps=eps,
        weight_decay=weight_decay,
        nesterov=nesterov,
        state=state,
        update=update,
        statistics=statistics,
        clip_norm=clip_norm,
        schedule=schedule,
        augment=None if augmentation is None else augmentation.to_dict(),
        label_smoothing=label_smoothing,
        seed=seed,
        seeds=seeds,
        device=device or "cpu",
        train_images=len(dataset.train),
        test_images=len(dataset.test),
    )
    integer("seeds", seeds, 1)
    backends.get(settings.device)
    for policy in policies:  # wrong settings show here, before a folder is made
        _trainer(settings, policy, dataset)
    if strict:
        for policy in policies:
            _hold_to(settings, policy, dataset)
    looking = _Looking(monitor_every, on_nonfinite)
    out = Path(out)
    stored = {**asdict(settings), "precisions": list(settings.precisions)}
    may_change = {"precisions", "seeds"} | ({"epochs"} if schedule == "constant" else set())
    claim(out, stored, resume, frozenset(may_change))

    all_seeds = range(seed, seed + seeds)
    shown = Series(reporter(progress), seeds * len(policies))
    started = _now()
    runs: list[dict[str, Any]] = []
    tolerances: list[dict[str, Any]] = []
    points: dict[int, Points] = {}
    for one in all_seeds:
        own = replace(settings, seed=one)
        folders = [out / run_name(policy.name, one, seed) for policy in policies]
        of_seed = [
            _run(own, policy, dataset, folder, shown, checkpoint_every, looking)
            for policy, folder in zip(policies, folders, strict=True)
        ]
        found, points[one] = _tolerances(of_seed, settings, out)
        runs += of_seed
        tolerances += [{**pair, "seed": one} for pair in found]
    speeds = _speeds(settings, policies, dataset, runs[: len(policies)], shown)
    labels, classes = dataset.test.labels, len(dataset.classes)
    if seeds == 1:
        verdicts = _verdicts(runs, points[seed], labels, classes, speeds["rates"])
    else:
        right = {(n, one): _right(p, labels) for one in points for n, p in points[one].items()}
        base = REFERENCE if REFERENCE in settings.precisions else settings.precisions[0]
        verdicts = over_seeds.verdicts(runs, right, base, classes, speeds["rates"])
        for pair in verdicts:
            if pair["reference"] is not None:
                pair["sentences"] += _unanswered_over_seeds(points, pair["precision"], pair["reference"])
    summary: dict[str, Any] = {
        "version": __version__,
        "device": settings.device,
        "model": model_name,
        "data": dataset.name,
        "parameters": runs[0]["parameters"],
        "classes": classes,
        "seeds": list(all_seeds),
        "settings": stored,
        "started": started,
        "finished": _now(),
        "runs": runs,
        **_first(tolerances, runs),
        "tolerances": tolerances,
        "verdict": verdict.short(verdicts, seeds),
        "verdicts": verdicts,
        "speed": speeds,
        "machine": machine(settings.device),
        "report": None,
        "report_missing": reports.missing(),
    }
    if summary["report_missing"] is None:
        summary["report"] = reports.REPORT
    write_json(out / SUMMARY, summary)
    if summary["report"]:
        reports.write(summary, _scatters(points[seed]), out)
    else:
        shown.note(summary["report_missing"])
    return summary


def run_name(precision: str, seed: int, first: int) -> str:
    """Return the folder of a run: the first seed has the precision's name, the others the seed's too."""
    return precision if seed == first else f"{precision}-seed{seed}"


def _policies(precisions: Sequence[str], update: str | None, statistics: str | None) -> list[Precision]:
    policies = [_changed(Precision.get(name), update, statistics) for name in precisions]
    names = [policy.name for policy in policies]
    if not names:
        raise ValueError("precision must be at least one name, got none")
    if len(set(names)) < len(names):
        raise ValueError(must_be("precision", "different names", ",".join(names)))
    return policies


def _changed(policy: Precision, update: str | None, statistics: str | None) -> Precision:
    """The policy with the settings that are for FP16 weights and FP16 statistics, where it has those."""
    if update is not None and policy.update != "master32" and policy.storage == "float16":
        policy = policy.changed(update=update)
    if statistics is not None and policy.statistics == "float16":
        policy = policy.changed(statistics_form=statistics)
    return policy


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _trainer(settings: Settings, policy: Precision, dataset: Dataset) -> Trainer:
    model = models.create(
        settings.model,
        num_classes=len(dataset.classes),
        image_size=dataset.image_size,
        channels=dataset.channels,
        seed=settings.seed,
    )
    return Trainer(
        model,
        precision=policy,
        optimizer=settings.optimizer,
        lr=settings.lr,
        momentum=settings.momentum or 0.0,
        device=settings.device,
        seed=settings.seed,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
        state=settings.state,
        clip_norm=settings.clip_norm,
        schedule=settings.schedule,
        augment=Augmentation.get(settings.augment),
        label_smoothing=settings.label_smoothing,
    )


def _run(
    settings: Settings,
    policy: Precision,
    dataset: Dataset,
    folder: Path,
    shown: Series,
    checkpoint_every: int | None,
    looking: _Looking,
) -> dict[str, Any]:
    record = folder / _RUN
    if record.exists():
        done = read_run(record, _RECORD)
        if done["status"] == "failed" or done["epochs"] >= settings.epochs:
            shown.skip(f"{policy.name}, seed {settings.seed}: already done, taken from {record}")
            return done
    audit = _audit(settings, policy, dataset)
    result = {
        "precision": policy.name,
        "seed": settings.seed,
        "precision_choices": policy.describe(),
        **_train(settings, policy, dataset, folder, shown, checkpoint_every, looking, audit),
    }
    write_json(record, result)
    gc.collect()  # the tape's cycles hold arrays, which would count as memory of the next run
    return result


def _train(
    settings: Settings,
    policy: Precision,
    dataset: Dataset,
    folder: Path,
    shown: Reporter,
    checkpoint_every: int | None,
    looking: _Looking,
    audit: dict[str, Any],
) -> dict[str, Any]:
    trainer = _trainer(settings, policy, dataset)
    trainer.audit = audit
    trainer.on_nonfinite = looking.on_nonfinite
    watching = PredictingReporter(
        shown,
        lambda: probabilities(trainer, dataset, settings.batch_size),
        Predictions(folder / "probabilities"),
    )
    parameters = trainer.model.num_parameters()
    try:
        history = trainer.fit(
            dataset,
            settings.epochs,
            settings.batch_size,
            out=folder,
            resume=(folder / "checkpoint.json").exists(),
            progress=watching,
            checkpoint_every=checkpoint_every,
            monitor_every=looking.monitor_every,
        )
    except NonFiniteError as error:
        shown.note(f"{policy.name}: {error}")
        failure = {**_failed(trainer, str(error), folder), "explanation": error.explanation}
        return {"parameters": parameters, **failure, **_findings(trainer), "audit": trainer.audit}
    if history.failure is not None:
        shown.note(f"{policy.name}: {history.failure}")
    return {"parameters": parameters, **history.summary(), **_findings(trainer), "audit": trainer.audit}


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


def _hold_to(settings: Settings, policy: Precision, dataset: Dataset) -> None:
    x = dataset.normalised("train", policy.storage)[:AUDIT_BATCH]
    hold_to_policy(_trainer(settings, policy, dataset), x, dataset.train.labels[:AUDIT_BATCH])
    gc.collect()


def _audit(settings: Settings, policy: Precision, dataset: Dataset) -> dict[str, Any]:
    """Audit a step of a twin of the run, so that the run itself is exactly what `Trainer.fit` gives."""
    x = dataset.normalised("train", policy.storage)[:AUDIT_BATCH]
    audit = audit_step(_trainer(settings, policy, dataset), x, dataset.train.labels[:AUDIT_BATCH])
    gc.collect()
    return audit.to_dict(policy)


Points = dict[str, NDArray[np.float32]]


def _tolerances(
    runs: list[dict[str, Any]], settings: Settings, out: Path
) -> tuple[list[dict[str, Any]], Points]:
    """Compare each finished run with the reference, after every epoch; also return the last probabilities."""
    stores = {
        run["precision"]: Predictions(
            out / run_name(run["precision"], run["seed"], settings.seed) / "probabilities"
        )
        for run in runs
        if run["status"] == "finished"
    }
    last = {name: stores[name].load(settings.epochs) for name in stores}
    points = {name: p for name, p in last.items() if p is not None}
    result = []
    for other in points:
        if other == REFERENCE or REFERENCE not in points:
            continue
        rows = []
        for epoch in range(1, settings.epochs + 1):
            p, q = (stores[name].load(epoch) for name in (REFERENCE, other))
            if p is not None and q is not None and p.shape == q.shape:
                rows.append({"epoch": epoch, **analyse(p, q, REFERENCE, other).to_dict()})
        final = analyse(points[REFERENCE], points[other], REFERENCE, other).to_dict()
        result.append({**final, "epochs": rows})
    return result, points


def _first(tolerances: list[dict[str, Any]], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return `tolerance`: fp16 against fp32 if both are there, else the first pair, else None."""
    if tolerances:
        first = next((t for t in tolerances if t["other"] == "fp16"), tolerances[0])
        kept = {key: value for key, value in first.items() if key not in ("epochs", "seed")}
        return {"tolerance": kept, "tolerance_reason": None}
    reference = next((run for run in runs if run["precision"] == REFERENCE), None)
    if reference is None:
        reason = f"{REFERENCE} is not among the precisions, so there is no reference to compare with"
    elif reference["status"] == "failed":
        reason = f"the {REFERENCE} run failed, so there is no reference to compare with"
    else:
        reason = f"no other run than {REFERENCE} finished"
    return {"tolerance": None, "tolerance_reason": reason}


def _right(p: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.isfinite(p).all(axis=1) & (p.argmax(axis=1) == labels)


def _speeds(
    settings: Settings,
    policies: list[Precision],
    dataset: Dataset,
    runs: list[dict[str, Any]],
    shown: Reporter,
) -> dict[str, Any]:
    """Measure the finished runs' steps in turn; `reason` says why not."""
    finished = {run["precision"]: run for run in runs if run["status"] == "finished"}
    reason = speed.unmeasured(
        settings.device,
        [settings.batch_size / max(run["images_per_second"], 1e-9) for run in finished.values()],
        sum(run["train_seconds"] for run in finished.values()),
    )
    if reason is not None:
        return {"rates": {}, "reason": reason}
    shown.note("speed: steps of every precision in turn")
    made = {p.name: partial(_trainer, settings, p, dataset) for p in policies if p.name in finished}
    rates = speed.rates(made, dataset, settings.batch_size)
    return {"rates": rates, "reason": None if rates else "a step was not finite"}


def _verdicts(
    runs: list[dict[str, Any]],
    points: Points,
    labels: NDArray[np.int64],
    classes: int,
    rates: dict[str, list[float]],
) -> list[dict[str, Any]]:
    """Return one verdict per run beside the reference (or beside the first run, without fp32)."""
    finished = [run for run in runs if run["precision"] in points]
    reference = next(
        (run for run in finished if run["precision"] == REFERENCE), finished[0] if finished else None
    )
    result = []
    for run in runs:
        name = run["precision"]
        if run["status"] == "failed":
            text = verdict.capital(f"{verdict.label(name)} failed: {run['error']}")
            result.append(
                {"precision": name, "reference": None, "outcome": "failed", "headline": text, "sentences": []}
            )
        elif reference is not None and name in points and run is not reference:
            base = reference["precision"]
            accuracy = verdict.paired(_right(points[base], labels), _right(points[name], labels))
            outcome, headline, sentences = verdict.sentences(reference, run, accuracy, classes)
            sentences += _unanswered({one: points[one] for one in (name, base)})
            said, measured = speed.judgement(rates, name, base)
            sentences += said
            result.append(
                {
                    "precision": name,
                    "reference": base,
                    "outcome": outcome,
                    "headline": headline,
                    "sentences": sentences,
                    "points": 100 * (run["test_accuracy"] - reference["test_accuracy"]),
                    "accuracy": accuracy.to_dict(),
                    **measured,
                    "memory_ratio": verdict.memory_ratio(reference, run),
                }
            )
    return result


def _unanswered_over_seeds(points: dict[int, Points], *names: str) -> list[str]:
    """`_unanswered` of the outputs of all seeds together."""
    together = {
        name: np.concatenate([of_seed[name] for of_seed in points.values() if name in of_seed])
        for name in names
    }
    return _unanswered(together)


def _unanswered(points: Points) -> list[str]:
    """Say how many outputs of each network are not finite; nothing where all are."""
    missing = {name: int(np.count_nonzero(~np.isfinite(p).all(axis=1))) for name, p in points.items()}
    return [
        verdict.capital(
            f"{verdict.label(name)} has outputs that are not finite for {count:,} of {len(points[name]):,} "
            "test images; they count as wrong."
        )
        for name, count in missing.items()
        if count
    ]


def _scatters(points: Points) -> list[reports.Scatter]:
    if REFERENCE not in points:
        return []
    p, result = points[REFERENCE], []
    for name, q in points.items():
        if name != REFERENCE:
            far = delta(p, q)
            agree = np.isfinite(far) & (p.argmax(axis=1) == q.argmax(axis=1))
            result.append(reports.Scatter(name, far, gamma_sound(p), agree))
    return result
