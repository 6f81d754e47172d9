"""Heat maps of what the monitor saw, layers by training steps. Needs matplotlib (extra `report`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...numerics.ranges import HIGHEST
from ...reporting.metrics import FILE_NAME
from .labels import label
from .plots import themed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS = 48  # layer names that still fit next to a map
_UNKNOWN = "#8A8A8A"
_SMALLEST_NORMAL = -14


@dataclass(frozen=True)
class Heat:
    """A map: `values` (layers, steps), NaN where nothing is known; `low` to `high` is its scale."""

    name: str
    title: str
    caption: str
    layers: list[str]
    steps: list[int]
    values: NDArray[np.float64]
    low: float
    high: float
    unit: str


class _Quantity(NamedTuple):
    name: str
    title: str
    caption: str
    low: float
    high: float
    unit: str
    cells: Callable[[dict[str, Any]], dict[str, float]]


def samples(folder: Path) -> list[dict[str, Any]]:
    """Return the rows that the monitor of a run in `folder` wrote, in the order of the steps."""
    path = folder / FILE_NAME
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if row["kind"] == "ranges"]


def heats(rows: list[dict[str, Any]]) -> list[Heat]:
    """Return the maps that these samples give; none for fewer than two samples."""
    if len(rows) < 2:
        return []
    result = []
    for quantity in _QUANTITIES:
        columns = [quantity.cells(row) for row in rows]
        layers = list(dict.fromkeys(layer for column in columns for layer in column))
        if not layers:
            continue
        if quantity.name == "underflow":
            layers.reverse()  # the backward pass met the last layer first
        values = np.array([[column.get(layer, np.nan) for column in columns] for layer in layers], float)
        if quantity.name == "underflow":
            values = _carried(values)
        if np.isnan(values).all():  # an FP32 run has no shadow
            continue
        result.append(
            Heat(
                quantity.name,
                quantity.title,
                quantity.caption,
                layers,
                [row["step"] for row in rows],
                values,
                quantity.low,
                quantity.high,
                quantity.unit,
            )
        )
    return result


def lost_share(rows: list[dict[str, Any]]) -> float | None:
    """Return the share of nonzero updates that were lost, over layers and samples; None without any."""
    updates = [entry for row in rows for entry in row["updates"]]
    nonzero = sum(entry["nonzero"] for entry in updates)
    return sum(entry["lost"] for entry in updates) / nonzero if nonzero else None


def lost_updates(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return by layer the share of its nonzero updates that were lost, over the samples."""
    updates = [(entry["layer"], entry["lost"], entry["nonzero"]) for row in rows for entry in row["updates"]]
    return _shares(updates)


def underflowed_gradients(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return by layer the share of its nonzero gradients that binary16 made 0, over the samples."""
    kinds = ("activation gradients", "gradients")
    entries = [entry for row in rows for entry in row["rows"] if entry["kind"] in kinds]
    return _shares([(entry["layer"], entry["underflowed"], entry["shadowed"]) for entry in entries])


def _shares(counts: list[tuple[str, int, int]]) -> dict[str, float]:
    lost, nonzero = Counter[str](), Counter[str]()
    for layer, part, whole in counts:
        lost[layer] += part
        nonzero[layer] += whole
    return {layer: lost[layer] / n for layer, n in nonzero.items() if n}


def _carried(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill gaps with the value before: the shadow visits a layer in every few samples only."""
    filled = values.copy()
    for column in range(1, filled.shape[1]):
        gap = np.isnan(filled[:, column])
        filled[gap, column] = filled[gap, column - 1]
    return filled


def _rows(kind: str, value: Callable[[dict[str, Any]], float | None]) -> Callable[..., dict[str, float]]:
    def cells(sample: dict[str, Any]) -> dict[str, float]:
        pairs = ((row["layer"], value(row)) for row in sample["rows"] if row["kind"] == kind)
        return {layer: np.nan if v is None else v for layer, v in pairs}

    return cells


def _top(row: dict[str, Any]) -> float | None:
    return row["first"] + len(row["exponents"]) - 1 if row["exponents"] else None


def _underflow(row: dict[str, Any]) -> float | None:
    return 100 * row["underflowed"] / row["shadowed"] if row["shadowed"] else None


def _small(row: dict[str, Any]) -> float | None:
    return 100 * (row["subnormal"] + row["under"]) / row["values"] if row["values"] else None


def _lost(sample: dict[str, Any]) -> dict[str, float]:
    return {row["layer"]: 100 * row["share"] for row in sample["updates"] if row["nonzero"]}


_QUANTITIES = (
    _Quantity(
        "activations",
        "Largest activations",
        "Exponent of the largest activation: 15 is the last before infinity.",
        _SMALLEST_NORMAL,
        HIGHEST,
        "exponent of 2",
        _rows("activations", _top),
    ),
    _Quantity(
        "underflow",
        "Gradients that underflow to 0",
        "Share of the gradients passed back that an FP32 shadow of the operation keeps and FP16 makes 0.",
        0,
        100,
        "%",
        _rows("activation gradients", _underflow),
    ),
    _Quantity(
        "subnormal",
        "Subnormal weight gradients",
        "Share of the weights' gradients below 2⁻¹⁴, where binary16 has fewer digits.",
        0,
        100,
        "%",
        _rows("gradients", _small),
    ),
    _Quantity(
        "lost",
        "Updates lost to rounding",
        "Share of the nonzero updates that left the stored weight as it was.",
        0,
        100,
        "%",
        _lost,
    ),
)


def draw(heat: Heat, precision: str) -> Figure:
    """Draw one map."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with themed():
        rows = len(heat.layers)
        figure = Figure(figsize=(5.0, min(1.3 + 0.16 * max(rows, 6), 7.5)), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(False)
        axes.set(title=f"{heat.title}, {label(precision)}", xlabel="step")
        image = axes.imshow(
            np.ma.masked_invalid(heat.values),
            aspect="auto",
            interpolation="nearest",
            cmap=colormaps["inferno"].with_extremes(bad=_UNKNOWN),
            vmin=heat.low,
            vmax=heat.high,
        )
        every = -(-rows // _LABELS)
        axes.set_yticks(range(0, rows, every), heat.layers[::every], fontsize=6.5)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(
            lambda x, _: str(heat.steps[int(x)]) if 0 <= int(x) < len(heat.steps) and x == int(x) else ""
        )
        figure.colorbar(image, ax=axes, label=heat.unit, shrink=0.9)
        return figure


def in_words(heat: Heat, precision: str) -> str:
    """Return what a map shows, for those who cannot see it."""
    last = heat.values[:, -1]
    if np.isnan(last).all():
        return f"{heat.title} for {label(precision)}, layer by step: nothing was measured at the last step."
    worst = int(np.nanargmax(last))
    return (
        f"{heat.title} for {label(precision)}, {len(heat.layers)} layers by {len(heat.steps)} steps; at the "
        f"last step the highest is {last[worst]:.3g} {heat.unit} in {heat.layers[worst]}."
    )
