"""report.html: a comparison as a page that needs nothing but itself. Needs the extra `report`."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...numerics.confusion import WIDEST
from ...reporting.files import make_folder, write_atomically
from ...validate import must_be
from . import gallery, verdict
from .labels import NOTHING, PAGE_COLOURS, label, style
from .spread import Spread

if TYPE_CHECKING:
    from jinja2 import Environment

    from ...data import Dataset

REPORT = "report.html"
PLOTS = "plots"
_CHOICES = {
    "storage": "Tensors are stored in",
    "operand": "Dot-product operands",
    "accumulate": "Sums accumulate in",
    "statistics": "Norm statistics",
    "update": "Weight update",
    "loss_scale": "Loss scale",
    "convolution": "Convolutions by",
}


@dataclass(frozen=True)
class Scatter:
    """One point per test sample of a pair of models, after the last epoch: arrays (N,)."""

    other: str
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


def missing() -> str | None:
    """Return a sentence that says how to get plots and report, or None if they can be made."""
    lacking = [name for name in ("matplotlib", "jinja2") if importlib.util.find_spec(name) is None]
    if not lacking:
        return None
    verb = "is" if len(lacking) == 1 else "are"
    return (
        f"No plots and no report.html, because {' and '.join(lacking)} {verb} not installed. To get them:"
        " pip install 'fp16engine[report]', then the same command with --resume."
    )


def write(summary: dict[str, Any], scatters: list[Scatter], dataset: Dataset, out: Path) -> Path:
    """Draw the plots into out/plots (PNG and SVG) and write out/report.html; return its path.

    summary: the contents of `summary.json`; scatters: the last epoch's samples, one entry per pair; dataset:
    its test images are shown.
    """
    main = verdict.main(summary["verdicts"])
    shown = {image["index"] for pair in summary["disagreements"] for image in pair["images"]}
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            s=summary,
            main=main,
            class_rows=gallery.class_rows(summary["per_class"], main["precision"] if main else None),
            confusions=gallery.confusions,
            widest=WIDEST,
            pictures=gallery.pictures(dataset, sorted(shown)),
            first=_first_seed(summary),
            spreads=_spreads(summary),
            plots=_plots(summary, scatters, out / PLOTS),
            choices=_CHOICES,
            date=summary["finished"][:10],
        )
    )
    path = out / REPORT
    write_atomically(path, page)
    return path


def environment() -> Environment:
    """Return jinja's environment with the templates of this package and the filters they use."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("fp16engine.experiments.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "label": label,
        "colour": lambda name: PAGE_COLOURS.get(style(name).colour, style(name).colour),
        "percent": lambda value: NOTHING if value is None else verdict.percent(value),
        "megabytes": lambda value: NOTHING if value is None else f"{value / 1e6:,.1f} MB",
        "seconds": lambda value: NOTHING if value is None else f"{value:,.1f} s",
        "rate": lambda value: NOTHING if value is None else f"{value:,.0f}",
        "scientific": scientific,
        "signed": verdict.signed,
        "capital": verdict.capital,
    }
    return made


def _text(value: Any) -> Any:
    """Let only what has a plain text form into a page; an attribute that turns out a method is an error."""
    from jinja2 import Undefined

    if value is None:
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, str | int | float | Undefined):
        raise TypeError(must_be("report: a value of a page", "text or a number", type(value)))
    return value


def scientific(value: float | None) -> str:
    """0.00012 -> "1.2·10⁻⁴", 0.25 -> "0.25", None -> a dash."""
    if value is None:
        return NOTHING
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}·10{superscript(int(exponent))}"


def superscript(number: int) -> str:
    """-12 -> "⁻¹²"."""
    return str(number).replace("-", "⁻").translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _plots(summary: dict[str, Any], scatters: list[Scatter], folder: Path) -> list[Plot]:
    from . import plots

    make_folder(folder)
    runs = [run for run in _first_seed(summary) if run["history"]]
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
            figure = plots.per_epoch(every, quantity)
            caption = (
                "Bold lines: test set; thin lines: training set."
                + " Means of all seeds; the band is from the lowest to the highest on the test set." * several
            )
            result.append(
                _plot(figure, folder, quantity, caption, f"Test and training {quantity} per epoch: {ends}.")
            )
    judged = [v for v in summary["verdicts"] if "per_seed_points" in v.get("accuracy", {})]
    if judged:
        ends = "; ".join(
            f"{label(v['precision'])} {verdict.signed(v['accuracy']['low_points'])} to "
            f"{verdict.signed(v['accuracy']['high_points'])} points"
            for v in judged
        )
        caption = "A dot per seed; the bar is the 95 % interval for other seeds and other test images."
        reference = judged[0]["reference"]
        alt = f"Test accuracy against {label(reference)}, seed by seed; 95 % intervals: {ends}."
        result.append(_plot(plots.differences(judged, reference), folder, "seed-differences", caption, alt))
    for scatter in scatters:
        name, figure = (
            label(scatter.other),
            plots.delta_gamma(scatter.delta, scatter.gamma, scatter.agree, scatter.other, "fp32"),
        )
        alt = (
            f"Scatter of delta against Gamma for {len(scatter.agree)} test images: {name} and FP32 choose "
            f"the same class for {np.count_nonzero(scatter.agree)} of them."
        )
        caption = f"In the shaded region {name} cannot choose another class than FP32."
        result.append(_plot(figure, folder, f"delta-gamma-{scatter.other}", caption, alt))
    for tolerance in summary["tolerances"]:
        if tolerance["seed"] != summary["seeds"][0]:
            continue
        if len(tolerance["epochs"]) > 1:
            other = tolerance["other"]
            figure = plots.over_epochs(tolerance["epochs"], other, "fp32")
            alt = (
                f"Mean of delta and Gamma per epoch for {label(other)} against FP32; at the end delta is "
                f"{scientific(tolerance['delta_mean'])} and Gamma {scientific(tolerance['gamma_mean'])}."
            )
            caption = "The further Γ lies above δ, the safer the predictions."
            result.append(_plot(figure, folder, f"delta-gamma-epochs-{other}", caption, alt))
    for run in runs:
        result += heat_plots(folder.parent / run["precision"], run["precision"], folder)
    return result


def _first_seed(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [run for run in summary["runs"] if run["seed"] == summary["seeds"][0]]


def _spreads(summary: dict[str, Any]) -> list[tuple[str, Spread | None]]:
    """Return the spread of each precision's test accuracy over the seeds; nothing for one seed."""
    if len(summary["seeds"]) == 1:
        return []
    return [
        (name, Spread.of([r["test_accuracy"] for r in summary["runs"] if r["precision"] == name]))
        for name in dict.fromkeys(run["precision"] for run in summary["runs"])
    ]


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
