"""Figures 1 to 5 of the standalone FP16 study: what each shows of a plan's results."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, Any

from ..experiment import Results
from ..report.labels import label, scientific
from ..report.parts import Claim, Part, Picture
from ..report.verdict import percent, signed
from ..runs.pairs import pairs
from ..runs.store import DONE
from . import paper, plots

if TYPE_CHECKING:
    from ..experiment import Case
    from ..runs.store import Row

_NOT_DONE = "Nothing to draw yet: none of its runs is done."


def figure1(results: Results) -> list[Part]:
    """Return Figure 1: accuracy over training time, a circle per network and precision."""
    points = []
    for case in results.cases:
        for arm in results.arms:
            accuracy, seconds, parameters = (
                results.spread(case, arm.label, name)
                for name in ("test_accuracy", "train_seconds", "parameters")
            )
            if accuracy and seconds and parameters:
                points.append(
                    plots.Circle(
                        case.model, arm.precision, seconds.mean, 100 * accuracy.mean, int(parameters.mean)
                    )
                )
    if not points:
        return [Claim(_NOT_DONE)]
    return [
        Picture(
            "figure1",
            "Accuracy over training time",
            partial(plots.circles, points),
            "Test accuracy against the seconds of training, means over the seeds. A circle's area grows with "
            "the network's parameters; a thin line joins the precisions of one network.",
            f"Scatter of {len(points)} results: test accuracy against training time.",
            [vars(point) for point in points],
            wide=True,
        )
    ]


def figure2(results: Results) -> list[Part]:
    """Return Figure 2: mean and deviation of delta and Gamma over training."""
    parts: list[Part] = []
    for reference, other in pairs([planned.spec for planned, _ in results.runs]):
        records = results.store.pair(reference.key, other.key)
        if not records:
            continue
        known = [row for row in records if row["delta_mean"] and row["gamma_mean"]]
        if known:
            small, large = (mean(row[f"{name}_mean"] for row in known) for name in ("delta", "gamma"))
            last = known[-1]
            parts.append(
                Claim(
                    f"{other.model} on {other.data}, {label(other.precision)} against "
                    f"{label(reference.precision)}, mean over the epochs: δ {scientific(small)} (paper about "
                    f"{scientific(paper.MNIST_DELTA)}), Γ {scientific(large)} (paper about "
                    f"{scientific(paper.MNIST_GAMMA)}): Γ is {large / small:,.0f} times δ. "
                    f"After epoch {last['epoch']} {percent(last['guaranteed_share'])} of the predictions "
                    f"must agree, {percent(last['agreement'])} do; the largest δ of an image is "
                    f"{last['delta_max']:.3f} (paper up to {paper.MNIST_DELTA_MAX})."
                )
            )
        name = f"figure2-{other.model}-{other.precision}-{other.seed}"
        parts.append(
            Picture(
                name,
                f"δ and Γ over training, {other.model}, {label(other.precision)}",
                partial(plots.tolerance, records, other.precision, reference.precision),
                "Mean (line) and mean ± standard deviation (band) over the test images, after every epoch. "
                "The further Γ lies above δ, the safer the predictions.",
                f"Mean of delta and Gamma over {len(records)} epochs.",
                records,
            )
        )
    return parts or [Claim(_NOT_DONE)]


def figure3(results: Results) -> list[Part]:
    """Return Figure 3: training and test accuracy over the epochs, precisions side by side."""
    parts: list[Part] = []
    for case in results.cases:
        curves = _curves(results, case)
        if not curves:
            continue
        ends = {curve.precision: curve.test[-1].mean for curve in curves}
        if {"fp16", "fp32"} <= set(ends):
            points = 100 * (ends["fp16"] - ends["fp32"])
            parts.append(
                Claim(
                    f"{case.model}: FP16 {percent(ends['fp16'])}, FP32 {percent(ends['fp32'])} of the test "
                    f"images right after the last epoch, {signed(points)} points."
                )
            )
        parts.append(
            Picture(
                f"figure3-{case.model}",
                f"{case.model}: training and test accuracy",
                partial(plots.accuracies, curves),
                "Bold lines: test set; thin lines: training set, measured while the weights move.",
                "Accuracy per epoch: "
                + "; ".join(f"{label(name)} ends at {percent(value)}" for name, value in ends.items()),
                [curve.to_json() for curve in curves],
            )
        )
    return parts or [Claim(_NOT_DONE)]


def figure4(results: Results) -> list[Part]:
    """Return Figure 4: test accuracy per epoch, a panel per network."""
    panels = {case.model: curves for case in results.cases if (curves := _curves(results, case))}
    if not panels:
        return [Claim(_NOT_DONE)]
    return [
        Picture(
            "figure4",
            "Test accuracy over the epochs",
            partial(plots.panels, panels),
            "Means over the seeds; where there are several, the band is ± a standard deviation.",
            f"Test accuracy per epoch of {len(panels)} networks.",
            {model: [curve.to_json() for curve in curves] for model, curves in panels.items()},
            wide=True,
        )
    ]


def figure5(results: Results) -> list[Part]:
    """Return Figure 5: box plots of the final accuracy over the seeds."""
    boxes: dict[str, dict[str, list[float]]] = {}
    for case in results.cases:
        for arm in results.arms:
            values = [
                100 * row.figures["test_accuracy"]
                for row in results.rows(case, arm.label)
                if row.figures.get("test_accuracy") is not None
            ]
            if values:
                boxes.setdefault(case.model, {})[arm.precision] = values
    if not boxes:
        return [Claim(_NOT_DONE)]
    seeds = max(len(values) for arms in boxes.values() for values in arms.values())
    caption = (
        "Boxes: quartiles and median of the final test accuracy over the seeds; whiskers reach to 1.5 times "
        "the box, circles lie beyond."
        if seeds > 1
        else "One seed was run, so each precision is one mark and there are no boxes to draw."
    )
    return [
        Picture(
            "figure5",
            "Final test accuracy over the seeds",
            partial(plots.boxes, boxes),
            caption,
            f"Box plots of the final test accuracy of {len(boxes)} networks.",
            boxes,
            wide=True,
        )
    ]


def _curves(results: Results, case: Case) -> list[plots.Curve]:
    """Return a curve per arm of a case, over the seeds that are done."""
    result = []
    for arm in results.arms:
        rows = results.rows(case, arm.label, DONE)
        if rows:
            result.append(plots.Curve.of(arm.precision, _columns(rows, "train"), _columns(rows, "test")))
    return result


def _columns(rows: Sequence[Row], part: str) -> list[list[Any]]:
    """Return per epoch the accuracies of all seeds."""
    epochs = min(len(row.history) for row in rows)
    return [[row.history[i][f"{part}_accuracy"] for row in rows] for i in range(epochs)]
