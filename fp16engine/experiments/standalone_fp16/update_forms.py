"""What each form of the weight update buys: FP16 with four of them against FP32, on real images.

No part of the study, which rounds to nearest; the question it leaves open is what the lost updates cost.
"""

from __future__ import annotations

from typing import Any

from ...precision import UPDATES
from ..experiment import Arm, Case, Experiment, Results
from ..report.parts import Claim, Column, Part, Table
from ..report.verdict import signed
from .tables import spread

MONITOR_EVERY = 50
NAME = "updates"

# Bytes that a parameter takes between and during steps: weight, gradient, momentum, and what the update adds.
_BYTES = {
    "nearest": 2 + 2 + 2,
    "stochastic": 2 + 2 + 2,
    "kahan": 2 + 2 + 2 + 2,
    "master32": 2 + 2 + 4 + 4,  # the momentum of an FP32 master is FP32
    "FP32": 4 + 4 + 4,
}

ARMS = (*(Arm(f"FP16, {form}", "fp16", {"update": form}) for form in UPDATES), Arm("FP32", "fp32"))


def report(results: Results) -> list[Part]:
    """Return the table: accuracy, bytes per parameter, speed and lost updates per form, and a sentence."""
    rows = [_row(results, case, arm) for case in results.cases for arm in results.arms]
    for row in rows:
        reference = next(r for r in rows if (r["model"], r["arm"]) == (row["model"], "FP32"))
        if row is not reference and row["accuracy"] and reference["accuracy"]:
            row["points"] = 100 * (row["accuracy"].mean - reference["accuracy"].mean)
    columns = [
        Column("model", "model", left=True),
        Column("arm", "update", left=True),
        Column("accuracy", "test accuracy, %", spread),
        Column("points", "points against FP32", signed),
        Column("bytes", "bytes per parameter", str),
        Column("rate", "images per second", "{:,.0f}".format),
        Column("lost", "updates lost, %", lambda share: f"{100 * share:.1f}"),
    ]
    note = (
        "Bytes per parameter: weight, gradient, momentum, and the compensation or the FP32 master. Updates "
        f"lost: share of the nonzero ones that left all that is stored as it was, in every {MONITOR_EVERY}th "
        "step; with stochastic rounding those that no random number would have kept."
    )
    return [Claim(_sentence(rows)), Table(NAME, "FP16 by form of the weight update", columns, rows, note)]


def _row(results: Results, case: Case, arm: Arm) -> dict[str, Any]:
    lost = results.spread(case, arm.label, "lost_updates")
    rate = results.spread(case, arm.label, "images_per_second")
    form = arm.training.get("update", "FP32" if arm.precision == "fp32" else "nearest")
    return {
        "model": case.model,
        "arm": arm.label,
        "accuracy": results.spread(case, arm.label, "test_accuracy"),
        "bytes": _BYTES[form],
        "rate": rate.mean if rate else None,
        "lost": lost.mean if lost else None,
    }


def _sentence(rows: list[dict[str, Any]]) -> str:
    known = [row for row in rows if row.get("points") is not None]
    if not known:
        return "No run of FP16 and FP32 is done yet."
    parts = [f"{row['arm']} {signed(row['points'])}" for row in known]
    return f"Test accuracy against FP32, in points: {', '.join(parts)}."


UPDATE_FORMS = Experiment(
    name=NAME,
    title="Update forms: what FP16 weights need",
    claim="The study rounds every update to nearest; what is lost by that, and what stochastic rounding, a "
    "compensation or an FP32 master would win, it does not ask.",
    cases=(Case("resnet20"),),
    arms=ARMS,
    seeds=3,
    epochs=30,
    batch_size=128,
    training={"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "schedule": "cosine"},
    fitting={"monitor_every": MONITOR_EVERY},
    report=report,
)
