"""The plots of a report, with captions and what they show in words. Needs matplotlib (extra `report`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...reporting.files import make_folder
from ...reporting.tables import shortened
from ...validate import printable
from . import verdict
from .labels import label, scientific

if TYPE_CHECKING:
    from ...data import Dataset
    from .explained import Example

PLOTS = "plots"
_LONGEST_NAME = 40  # letters of a class in a sentence


@dataclass(frozen=True)
class Scatter:
    """One point per test sample of a pair of models, after the last epoch.

    p, q: probabilities (N, K) of the reference and of the other; the other arrays are (N,).
    """

    reference: str
    other: str
    p: NDArray[np.float32]
    q: NDArray[np.float32]
    delta: NDArray[np.float64]
    gamma: NDArray[np.float64]
    agree: NDArray[np.bool_]


@dataclass(frozen=True)
class Plot:
    """A plot in the page: the SVG itself, a caption, and what it shows for those who cannot see it."""

    name: str
    svg: str
    caption: str
    alt: str
    wide: bool = False


def of_comparison(summary: dict[str, Any], scatters: Sequence[Scatter], folder: Path) -> list[Plot]:
    """Draw accuracies, losses, δ and Γ of a comparison into `folder`."""
    make_folder(folder)
    return [
        *_courses(summary, folder),
        *_differences(summary, folder),
        *_tolerances(summary, scatters, folder),
    ]


def of_seed(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs of the first seed."""
    return [run for run in summary["runs"] if run["seed"] == summary["seeds"][0]]


def _courses(summary: dict[str, Any], folder: Path) -> list[Plot]:
    """Accuracy and loss per epoch."""
    from . import plots

    runs = [run for run in of_seed(summary) if run["history"]]
    every = [run for run in summary["runs"] if run["history"]]
    several = len(summary["seeds"]) > 1
    result = []
    for quantity, unit in (("accuracy", verdict.percent), ("loss", "{:.3g}".format)):
        names = (f"test_{quantity}", f"train_{quantity}")
        if any(row[name] is not None for run in runs for row in run["history"] for name in names):
            ends = "; ".join(
                f"{label(r['precision'])} ends at {unit(r[f'test_{quantity}'])} on the test set"
                + (f" with seed {r['seed']}" if several else "")
                for r in runs
                if r[f"test_{quantity}"] is not None
            )
            caption = (
                "Bold lines: test set; thin lines: training set."
                + " Means of all seeds; the band is from the lowest to the highest on the test set." * several
            )
            alt = f"Test and training {quantity} per epoch: {ends}."
            result.append(_plot(plots.per_epoch(every, quantity), folder, quantity, caption, alt))
    return result


def _differences(summary: dict[str, Any], folder: Path) -> list[Plot]:
    """Each precision's accuracy against the reference's, where several seeds were run."""
    from . import plots

    judged = [v for v in summary["verdicts"] if "per_seed_points" in v.get("accuracy", {})]
    if not judged:
        return []
    ends = "; ".join(
        f"{label(v['precision'])} {verdict.signed(v['accuracy']['low_points'])} to "
        f"{verdict.signed(v['accuracy']['high_points'])} points"
        for v in judged
    )
    caption = "A dot per seed; the bar is the 95 % interval for other seeds and other test images."
    reference = judged[0]["reference"]
    alt = f"Test accuracy against {label(reference)}, seed by seed; 95 % intervals: {ends}."
    return [_plot(plots.differences(judged, reference), folder, "seed-differences", caption, alt)]


def _tolerances(summary: dict[str, Any], scatters: Sequence[Scatter], folder: Path) -> list[Plot]:
    """δ and Γ of each pair: image by image, and over the epochs."""
    from . import plots

    result = []
    for one in scatters:
        other, reference = label(one.other), label(one.reference)
        figure = plots.delta_gamma(one.delta, one.gamma, one.agree, one.other, one.reference)
        alt = (
            f"Scatter of delta against Gamma for {len(one.agree)} test images: {other} and {reference} "
            f"choose the same class for {np.count_nonzero(one.agree)} of them."
        )
        caption = f"In the shaded region {other} cannot choose another class than {reference}."
        result.append(_plot(figure, folder, f"delta-gamma-{one.other}", caption, alt))
    for tolerance in summary["tolerances"]:
        if tolerance["seed"] != summary["seeds"][0] or len(tolerance["epochs"]) < 2:
            continue
        one, base = tolerance["other"], tolerance["reference"]
        alt = (
            f"Mean of delta and Gamma per epoch for {label(one)} against {label(base)}; at the end delta is "
            f"{scientific(tolerance['delta_mean'])} and Gamma {scientific(tolerance['gamma_mean'])}."
        )
        caption = "The further Γ lies above δ, the safer the predictions."
        figure = plots.over_epochs(tolerance["epochs"], one, base)
        result.append(_plot(figure, folder, f"delta-gamma-epochs-{one}", caption, alt))
    return result


def of_examples(
    chosen: Sequence[Example], summary: dict[str, Any], dataset: Dataset, folder: Path
) -> list[Plot]:
    """Draw δ and Γ on images of the run."""
    from . import explained

    names = {i: printable(name) for i, name in enumerate(summary["per_class"]["names"])}
    said = {i: shortened(name, _LONGEST_NAME) for i, name in names.items()}
    result = []
    for one in chosen:
        own = [names.get(i, str(i)) for i in range(len(one.p))]
        short = [said.get(i, str(i)) for i in range(len(one.p))]
        words = explained.in_words(one, short, said[int(dataset.test.labels[one.index])])
        kind = "guaranteed" if one.guaranteed else "open"
        alt = (
            f"Probabilities of the classes of test image {one.index} as bars in pairs; Gamma is "
            f"{scientific(one.gamma)}, twice delta {scientific(2 * one.delta)}."
        )
        result.append(_plot(explained.draw(one, own), folder, f"explained-{kind}", words, alt))
    return result


def of_monitors(summary: dict[str, Any], out: Path) -> list[Plot]:
    """Draw what monitors saw of the first seed's runs."""
    runs = [run["precision"] for run in of_seed(summary) if run["history"]]
    return [plot for precision in runs for plot in heat_plots(out / precision, precision, out / PLOTS)]


def heat_plots(run_folder: Path, precision: str, folder: Path) -> list[Plot]:
    """Draw the maps of a monitored run into `folder`; none where no monitor looked."""
    from . import heatmaps

    return [
        _plot(
            heatmaps.draw(heat, precision),
            folder,
            f"heat-{heat.name}-{precision}",
            heat.caption,
            heatmaps.in_words(heat, precision),
        )
        for heat in heatmaps.heats(heatmaps.samples(run_folder))
    ]


def _plot(figure: Any, folder: Path, name: str, caption: str, alt: str) -> Plot:
    from markupsafe import Markup

    from . import plots

    return Plot(name, Markup(plots.save(figure, folder, name)), caption, alt)
