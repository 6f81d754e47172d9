"""How the figures of the study are drawn: functions that return a `Figure`. Needs the extra `report`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

from ..report.labels import short, style
from ..report.plots import SOFT, over_epochs, themed
from ..report.spread import Spread
from ..report.verdict import capital

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_LEGEND_ENTRY = 1.3  # inches
_ABOVE: Final = "outside upper right"  # of the axes: the foot of a picture says what was reduced


@dataclass(frozen=True)
class Circle:
    """A network in a precision: seconds of training, test accuracy in %, parameters."""

    model: str
    precision: str
    seconds: float
    accuracy: float
    parameters: int


@dataclass(frozen=True)
class Curve:
    """Accuracies 0..1 per epoch in a precision, over the seeds."""

    precision: str
    train: tuple[Spread, ...]
    test: tuple[Spread, ...]

    @classmethod
    def of(cls, precision: str, train: Sequence[Sequence[Any]], test: Sequence[Sequence[Any]]) -> Curve:
        """Return the curve of the accuracies of all seeds, epoch by epoch."""
        nothing = Spread(math.nan, None, 0)
        return cls(
            precision,
            tuple(Spread.of(values) or nothing for values in train),
            tuple(Spread.of(values) or nothing for values in test),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON values."""
        return asdict(self)


def circles(points: Sequence[Circle]) -> Figure:
    """Draw accuracy over training time, circles as large as the network."""
    from matplotlib.figure import Figure

    with themed():
        figure = Figure(figsize=(8.2, 5.4), layout="constrained")
        axes = figure.add_subplot()
        axes.set(
            title="Accuracy over training time",
            xlabel="seconds of training",
            ylabel="test accuracy (%)",
        )
        seconds = [point.seconds for point in points]
        if max(seconds) > 8 * min(seconds):
            axes.set_xscale("log")
            _plain_log_ticks(axes)
        for model in dict.fromkeys(point.model for point in points):
            own = sorted((p for p in points if p.model == model), key=lambda p: p.seconds)
            axes.plot(
                [p.seconds for p in own], [p.accuracy for p in own], color=SOFT, linewidth=0.7, zorder=1
            )
        for precision in dict.fromkeys(point.precision for point in points):
            own = [p for p in points if p.precision == precision]
            look = style(precision)
            axes.scatter(
                [p.seconds for p in own],
                [p.accuracy for p in own],
                s=[_area(p, points) for p in own],
                color=look.colour,
                alpha=0.6,
                linewidths=0.8,
                edgecolors="white",
                zorder=2,
            )
            axes.scatter([], [], s=60, color=look.colour, alpha=0.6, label=capital(look.label))
        smallest, largest = (find(points, key=lambda p: p.parameters) for find in (min, max))
        for point in dict.fromkeys((smallest, largest)):
            text = f"{point.parameters / 1e6:.2g} M parameters"
            axes.scatter([], [], s=_area(point, points), facecolors="none", edgecolors=SOFT, label=text)
        axes.margins(0.11, 0.12)
        _name_networks(figure, axes, points)
        figure.legend(loc=_ABOVE, ncols=5, handletextpad=0.9, borderpad=0.9)
        return figure


def _area(point: Circle, points: Sequence[Circle]) -> float:
    """Return the area of a circle in square points."""
    return 24 + 700 * point.parameters / max(p.parameters for p in points)


def _plain_log_ticks(axes: Axes) -> None:
    """Write numbers as people do, at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name_networks(figure: Figure, axes: Axes, points: Sequence[Circle]) -> None:
    """Write each network's name next to its fastest circle, where it covers least."""
    figure.draw_without_rendering()
    spots = axes.transData.transform([(p.seconds, p.accuracy) for p in points])
    scale = figure.dpi / 72
    taken: list[tuple[float, float, float, float]] = []
    for point, (x, y) in zip(points, spots, strict=True):
        radius = scale * math.sqrt(_area(point, points) / math.pi)
        taken.append((x - radius, y - radius, x + radius, y + radius))
        others = [spot for p, spot in zip(points, spots, strict=True) if p.model == point.model]
        for u, v in others:  # the lines between the circles of a network
            for share in (0.1, 0.2, 0.3, 0.4, 0.5):
                u1, v1 = x + share * (u - x), y + share * (v - y)
                taken.append((u1 - 3, v1 - 3, u1 + 3, v1 + 3))
    for model in dict.fromkeys(point.model for point in points):
        index = min((i for i, p in enumerate(points) if p.model == model), key=lambda i: points[i].seconds)
        x, y = spots[index]
        width, height = 4.9 * scale * len(model), 9 * scale
        best, least = (0.0, 0.0), math.inf
        for dx, dy in _PLACES:
            left = x + dx * scale - (width if dx < 0 else width / 2 if dx == 0 else 0)
            low = y + dy * scale - height / 2
            box = (left, low, left + width, low + height)
            cost = sum(_overlap(box, other) for other in taken) + 3 * math.hypot(dx, dy)
            if cost < least:
                best, least, chosen = (dx, dy), cost, box
        taken.append(chosen)
        axes.annotate(
            model,
            (points[index].seconds, points[index].accuracy),
            best,
            textcoords="offset points",
            ha="right" if best[0] < 0 else "center" if best[0] == 0 else "left",
            va="center",
            fontsize=8.5,
        )


_PLACES = [
    (dx * reach, dy * reach)
    for reach in (1.0, 1.7, 2.6)
    for dx, dy in ((12, 0), (-12, 0), (0, 13), (0, -13), (10, 9), (-10, 9), (10, -9), (-10, -9))
]


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def tolerance(records: Sequence[dict[str, Any]], other: str, reference: str) -> Figure:
    """Draw delta and Gamma over the epochs."""
    return over_epochs(records, other, reference, legend=_ABOVE)


def accuracies(curves: Sequence[Curve]) -> Figure:
    """Draw training (thin) and test accuracy (bold) over the epochs."""
    from matplotlib.figure import Figure

    with themed():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.set(title="Accuracy per epoch", xlabel="epoch", ylabel="accuracy (%)")
        for curve in curves:
            _draw(axes, curve.precision, curve.train, test=False)
            _draw(axes, curve.precision, curve.test, test=True)
        _whole_epochs(axes)
        figure.legend(loc=_ABOVE, ncols=4, handlelength=2.6)
        return figure


def panels(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """Draw test accuracy over the epochs, a panel per network."""
    with themed():
        figure, grid = _grid(len(curves), 1.75)
        for axes, (model, own) in zip(grid, curves.items(), strict=True):
            axes.set_title(model)
            for curve in own:
                _draw(axes, curve.precision, curve.test, test=True)
            _whole_epochs(axes)
        _label_edges(grid, "epoch", "test accuracy (%)")
        _shared_legend(figure, [curve.precision for own in curves.values() for curve in own])
        return figure


def boxes(values: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw box plots of accuracies in %, a panel per network, a box per precision."""
    with themed():
        figure, grid = _grid(len(values), 1.65)
        for axes, (model, own) in zip(grid, values.items(), strict=True):
            axes.set_title(model)
            for at, (precision, numbers) in enumerate(own.items()):
                look = style(precision)
                if len(numbers) < 2:
                    axes.plot(at, numbers[0], marker=look.marker, color=look.colour, markersize=7)
                    continue
                axes.boxplot(
                    [numbers],
                    positions=[at],
                    widths=0.55,
                    patch_artist=True,
                    boxprops={"facecolor": look.colour, "edgecolor": look.colour, "alpha": 0.8},
                    medianprops={"color": "white" if _has_height(numbers) else look.colour, "linewidth": 1.6},
                    whiskerprops={"color": look.colour},
                    capprops={"color": look.colour},
                    flierprops={"marker": "o", "markersize": 3.5, "markeredgecolor": look.colour},
                )
            axes.set_xlim(-0.6, len(own) - 0.4)
            axes.set_xticks(range(len(own)), [short(name) for name in own])
            axes.grid(visible=False, axis="x")
            axes.margins(y=0.2)
        _label_edges(grid, "", "test accuracy (%)")
        return figure


def _has_height(numbers: Sequence[float]) -> bool:
    """Tell whether a box between the quartiles has any height; a white median would hide one that has not."""
    low, _, high = quantiles(numbers, n=4, method="inclusive")
    return high > low


def _draw(axes: Axes, precision: str, spreads: Sequence[Spread], test: bool) -> None:
    look = style(precision)
    epochs = range(1, len(spreads) + 1)
    middle = [100 * value.mean for value in spreads]
    axes.plot(
        epochs,
        middle,
        color=look.colour,
        dashes=look.dashes or (None, None),
        marker=look.marker if test and len(spreads) < 25 else None,
        linewidth=1.8 if test else 1.0,
        alpha=1.0 if test else 0.55,
        label=capital(look.label) if test else None,
    )
    if test and any(value.std is not None for value in spreads):
        reach = [100 * (value.std or 0.0) for value in spreads]
        axes.fill_between(
            epochs,
            [max(m - r, 0.0) for m, r in zip(middle, reach, strict=True)],  # no share lies beyond
            [min(m + r, 100.0) for m, r in zip(middle, reach, strict=True)],
            color=look.colour,
            alpha=0.16,
            linewidth=0,
        )


def _grid(count: int, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(2.75 * columns, 4.4), height * rows + 1.0), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for unused in grid[count:]:
        unused.remove()
    return figure, list(grid[:count])


def _label_edges(grid: Sequence[Axes], x: str, y: str) -> None:
    for number, axes in enumerate(grid):
        if number % _COLUMNS == 0:
            axes.set_ylabel(y)
        if x and number + _COLUMNS >= len(grid):
            axes.set_xlabel(x)


def _whole_epochs(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _shared_legend(figure: Figure, precisions: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for name in dict.fromkeys(precisions):
        look = style(name)
        line = Line2D([], [], color=look.colour, marker=look.marker, label=capital(look.label))
        if look.dashes:
            line.set_dashes(look.dashes)
        handles.append(line)
    fitting = max(1, int(figure.get_figwidth() / _LEGEND_ENTRY))
    figure.legend(handles=handles, loc=_ABOVE, ncols=min(len(handles), fitting), handlelength=2.6)
