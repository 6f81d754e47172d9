"""The verdicts of a comparison: one for each run against the reference, from one seed or several."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import seeds, speed
from .agreement import Points
from .comparison import reference
from .report import verdict

Rates = dict[str, list[float]]


def of_runs(
    runs: list[dict[str, Any]],
    points: dict[int, Points],
    labels: NDArray[np.int64],
    rates: Rates,
) -> list[dict[str, Any]]:
    """Return the verdicts; points: the last probabilities of each seed's finished runs."""
    frequent = float(np.bincount(labels).max() / len(labels))
    if len(points) == 1:
        (only,) = points.values()
        return _of_one_seed(runs, only, labels, frequent, rates)
    right = {(name, seed): _right(p, labels) for seed in points for name, p in points[seed].items()}
    names = [run["precision"] for run in runs]
    base = reference(names)
    base = base if base in names else names[0]
    result = seeds.verdicts(runs, right, base, frequent, rates)
    for pair in result:
        if pair["reference"] is not None:
            pair["sentences"] += _unanswered_over_seeds(points, pair["precision"], pair["reference"])
    return result


def _of_one_seed(
    runs: list[dict[str, Any]],
    points: Points,
    labels: NDArray[np.int64],
    frequent: float,
    rates: Rates,
) -> list[dict[str, Any]]:
    """Return one verdict per run against the reference (or against the first run, without fp32)."""
    finished = [run for run in runs if run["precision"] in points]
    known = reference(run["precision"] for run in finished)
    base_run = next((run for run in finished if run["precision"] == known), finished[0] if finished else None)
    result = []
    for run in runs:
        name = run["precision"]
        if run["status"] == "failed":
            text = verdict.capital(f"{verdict.label(name)} failed: {run['error']}")
            result.append(
                {"precision": name, "reference": None, "outcome": "failed", "headline": text, "sentences": []}
            )
        elif base_run is not None and name in points and run is not base_run:
            base = base_run["precision"]
            accuracy = verdict.paired(_right(points[base], labels), _right(points[name], labels))
            outcome, headline, sentences = verdict.sentences(base_run, run, accuracy, frequent)
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
                    "points": 100 * (run["test_accuracy"] - base_run["test_accuracy"]),
                    "accuracy": accuracy.to_dict(),
                    **measured,
                    "memory_ratio": verdict.memory_ratio(base_run, run),
                }
            )
    return result


def _right(p: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.isfinite(p).all(axis=1) & (p.argmax(axis=1) == labels)


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
