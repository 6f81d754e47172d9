"""The plots of a comparison: accuracy and loss per epoch, delta against Gamma, both over the epochs.

Needs matplotlib (extra `report`). Every function returns a `Figure`; `save` writes it as PNG and SVG.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ...reporting.files import write_atomically
from .fonts import families, without_warnings
from .labels import PAGE_COLOURS, label, style
from .verdict import capital

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Ink and grid are replaced by the page's own colours where a plot is put into a report.
SOFT = "#5b6370"  # of what is written small
INK, _GRID = "#20242c", "#d5d8dd"
_AGREE, _DISAGREE, _SAFE = "#0072B2", "#D55E00", "#009E73"
_RC: dict[Any, Any] = {
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "fp16engine",
}
_PARTS = {"test": (1.8, 1.0), "train": (1.0, 0.55)}  # widths and opacities of their lines
_FOOT_POINTS = 7.5
_SIZE = (5.0, 3.6)
_BELOW: Final = "outside lower center"
Place = Literal["outside lower center", "outside upper right"]
FLOOR = 2.0**-24  # smallest positive binary16: where differences of exactly zero are drawn on a log axis


def themed() -> AbstractContextManager[None]:
    """Return a context in which plots get the look of the reports."""
    import matplotlib

    return matplotlib.rc_context({**_RC, "font.family": families()})


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def _legend(figure: Figure, columns: int, place: Place = _BELOW) -> None:
    """Put the legend outside the axes, where it hides no point."""
    figure.legend(loc=place, ncols=columns, columnspacing=1.4, handlelength=2.6)


def plain_numbers(axes: Axes) -> None:
    """Write 0.1, 0.2, 1, 2 along a logarithmic y axis, not powers of ten."""
    from matplotlib.ticker import LogFormatter, StrMethodFormatter

    class Sparse(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(Sparse(minor_thresholds=(2, 0.8)))


def per_epoch(runs: Sequence[dict[str, Any]], quantity: str) -> Figure:
    """Draw `quantity` ("accuracy" or "loss") per epoch and precision: test bold, training thin.

    Several runs of a precision give their mean, with a band from the lowest to the highest.
    """
    scale = 100 if quantity == "accuracy" else 1
    with themed():
        title = {"accuracy": "Accuracy per epoch", "loss": "Loss per epoch"}[quantity]
        name = "accuracy (%)" if scale == 100 else "cross-entropy"
        figure, axes = _figure(title, "epoch", f"{name}, thin: training")
        rows = [row for run in runs for row in run.get("history", [])]
        if quantity == "loss" and any((row[f"{part}_loss"] or 0) > 0 for part in _PARTS for row in rows):
            axes.set_yscale("log")  # which refuses to be without a number
            plain_numbers(axes)
        names = list(dict.fromkeys(run["precision"] for run in runs))
        for name in names:
            look = style(name)
            histories = [run.get("history", []) for run in runs if run["precision"] == name]
            for part, (width, alpha) in _PARTS.items():
                values = _table(histories, f"{part}_{quantity}") * scale
                epochs = np.arange(1, values.shape[1] + 1)
                axes.plot(
                    epochs,
                    values.mean(axis=0),
                    color=look.colour,
                    dashes=look.dashes or (None, None),
                    marker=look.marker if part == "test" and len(epochs) < 40 else None,
                    linewidth=width,
                    alpha=alpha,
                    label=capital(look.label) if part == "test" else None,
                )
                if part == "test" and len(values) > 1:
                    low, high = values.min(axis=0), values.max(axis=0)
                    axes.fill_between(epochs, low, high, color=look.colour, alpha=0.14, linewidth=0)
        _legend(figure, len(names))
        return figure


def _table(histories: Sequence[Sequence[dict[str, Any]]], name: str) -> NDArray[np.float64]:
    """Return a figure as (runs, epochs), as many epochs as the shortest run has."""
    length = min(map(len, histories))
    return np.array([[_number(row[name]) for row in rows[:length]] for rows in histories], np.float64)


def differences(verdicts: Sequence[dict[str, Any]], reference: str) -> Figure:
    """Draw each precision's accuracy against the reference's: a dot per seed, mean and 95 % interval."""
    from matplotlib.ticker import AutoLocator

    with themed():
        title = f"Test accuracy against {label(reference)}, by seed"
        figure, axes = _figure(title, "difference (percentage points)", "")
        for row, one in enumerate(verdicts):
            found, colour = one["accuracy"], style(one["precision"]).colour
            dots = found["per_seed_points"]
            # side by side, so that equal seeds stay apart
            axes.scatter(dots, row + np.linspace(-0.18, 0.18, len(dots)), s=18, c=colour, alpha=0.7)
            axes.plot([found["low_points"], found["high_points"]], [row, row], color=colour, linewidth=2.4)
            axes.plot([found["points"]] * 2, [row - 0.25, row + 0.25], color=colour, linewidth=2.4)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(verdicts)), [capital(label(one["precision"])) for one in verdicts])
        axes.set_ylim(len(verdicts) - 0.5, -0.5)
        axes.xaxis.set_major_locator(AutoLocator())
        return figure


def delta_gamma(
    delta: NDArray[np.float64],
    gamma: NDArray[np.float64],
    agree: NDArray[np.bool_],
    other: str,
    reference: str,
) -> Figure:
    """Draw one point per test sample: delta of the pair across, the reference's Gamma (sound form) up."""
    with themed():
        figure, axes = _figure(
            capital(f"{label(other)} against {label(reference)}, per test image"),
            "δ: largest difference of a probability",
            f"Γ: margin of {label(reference)}",
        )
        ok = np.isfinite(delta) & np.isfinite(gamma)
        x, y = np.maximum(delta, FLOOR), np.maximum(gamma, FLOOR)
        low_x, low_y = (10 ** np.floor(np.log10(v[ok].min())) if ok.any() else 1e-4 for v in (x, y))
        axes.set(xscale="log", yscale="log", xlim=(low_x, 1.6), ylim=(max(low_y, 1e-4) / 1.3, 1.6))
        edge = np.geomspace(low_x, 1.6, 200)
        axes.fill_between(edge, 2 * edge, 1.6, where=2 * edge <= 1.6, color=_SAFE, alpha=0.13, linewidth=0)
        axes.plot(edge, 2 * edge, color=_SAFE, linewidth=1.2)
        many = np.count_nonzero(ok) > 1500
        for mask, colour, marker, text in (
            (agree & ok, _AGREE, "o", "same class"),
            (~agree & ok, _DISAGREE, "x", "another class"),
        ):
            axes.scatter(
                x[mask],
                np.maximum(y[mask], axes.get_ylim()[0]),
                s=11 if marker == "o" else 26,
                c=colour,
                marker=marker,
                alpha=0.4 if many else 0.75,
                linewidths=0 if marker == "o" else 1.3,
                label=f"{text} ({np.count_nonzero(mask)})",
                rasterized=many,
            )
        axes.text(
            0.04, 0.5, "Γ > 2δ:\nsame class\nguaranteed", color=_SAFE, transform=axes.transAxes, fontsize=9
        )
        _legend(figure, 2)
        return figure


def over_epochs(rows: Sequence[dict[str, Any]], other: str, reference: str, legend: Place = _BELOW) -> Figure:
    """Draw mean and standard deviation of delta and Gamma per epoch, as Figure 2 of the study."""
    with themed():
        figure, axes = _figure(f"δ and Γ over training, {label(other)}", "epoch", "mean ± standard deviation")
        epochs = np.array([row["epoch"] for row in rows])
        for name, colour, marker, text in (
            ("gamma", "#009E73", "^", f"Γ of {label(reference)}"),
            ("delta", "#0072B2", "o", "δ of the pair"),
        ):
            mean, std = (
                np.array([_number(row[f"{name}_{part}"]) for row in rows]) for part in ("mean", "std")
            )
            axes.plot(epochs, mean, color=colour, marker=marker if len(epochs) < 40 else None, label=text)
            axes.fill_between(
                epochs, np.maximum(mean - std, 1e-4), mean + std, color=colour, alpha=0.16, linewidth=0
            )
        axes.set_yscale("log")
        _legend(figure, 2, legend)
        return figure


def footnote(figure: Figure, text: str) -> None:
    """Write what was reduced under a picture, in small letters; its legend must not stand there."""
    import textwrap

    lines = textwrap.wrap(text, int(figure.get_figwidth() * 15))
    foot = (len(lines) * _FOOT_POINTS * 1.25 + 6) / 72  # inches
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + foot)
    share = foot / (height + foot)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, share, 1, 1 - share))  # type: ignore[call-arg]
    with themed():
        figure.text(0.012, 4 / 72 / (height + foot), "\n".join(lines), fontsize=_FOOT_POINTS, color=SOFT)


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write folder/name.png and folder/name.svg; return the SVG made to be put into a page."""
    with themed(), without_warnings():
        picture, drawing = BytesIO(), StringIO()
        figure.savefig(picture, format="png", dpi=180, facecolor="white")
        write_atomically(folder / f"{name}.png", picture.getvalue())
        figure.savefig(drawing, format="svg", facecolor="white", metadata={"Date": None})
        write_atomically(folder / f"{name}.svg", drawing.getvalue())
        figure.patch.set_alpha(0)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        page = StringIO()
        figure.savefig(page, format="svg", metadata={"Date": None})
    return inline(page.getvalue(), name)


def inline(svg: str, name: str) -> str:
    """Make an SVG part of a page: no metadata, ids that begin with `name`, colours from the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for colour, name_in_page in {INK: "currentColor", _GRID: "var(--grid)", **PAGE_COLOURS}.items():
        svg = svg.replace(colour.lower(), name_in_page)
    return svg


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
