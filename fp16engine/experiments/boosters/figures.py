"""Figures 1 and 2 of Accuracy Boosters (2211.10737): distances of weights, losses around trained networks.

Next to Figure 2's lines come the losses over a plane: two directions at a time show whether one was typical.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ... import models
from ...block_format import BlockFormat
from ...train import TrainConfig, Trainer
from ...train.batches import DeviceSplit
from ...train.checkpoint import FILE_NAME as CHECKPOINT
from ..report.labels import style
from ..report.plots import plain_numbers, themed
from ..report.verdict import capital
from .distance import WeightDistance, weight_distances
from .landscape import line, plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ...data import Dataset
    from ...nn import Module
    from ...reporting.progress import Reporter

BLOCKS = (16, 25, 36, 49, 64, 256, 576)
MANTISSAS = (4, 6)
STEPS = tuple(np.linspace(-1, 1, 21).tolist())  # along a direction as long as the weights


def trained(
    precision: str,
    dataset: Dataset,
    folder: Path,
    *,
    model: str,
    epochs: int,
    batch_size: int,
    training: TrainConfig,
    device: str | None = None,
    progress: bool | Reporter | None = None,
) -> Trainer:
    """Return a trainer whose network was trained in `folder`; a run that is there continues, or is done."""
    made = models.create(
        model,
        num_classes=len(dataset.classes),
        image_size=dataset.image_size,
        channels=dataset.channels,
    )
    trainer = Trainer.of(made, precision, training, device)
    resume = (folder / CHECKPOINT).exists()
    trainer.fit(dataset, epochs, batch_size, out=folder, resume=resume, progress=progress)
    return trainer


def distances(model: Module) -> list[WeightDistance]:
    """Return the Wasserstein distances of every layer, in HBFP4 and HBFP6 at the paper's block sizes."""
    return weight_distances(model, [BlockFormat(m, block) for m in MANTISSAS for block in BLOCKS])


def ratios(found: Sequence[WeightDistance]) -> dict[int, list[float]]:
    """Return HBFP4's distance over HBFP6's, by block: a value per layer."""
    by = {(d.fmt.mantissa, d.fmt.block, d.layer): d.distance for d in found}
    layers = range(found[0].layers)
    return {block: [by[4, block, i] / by[6, block, i] for i in layers] for block in BLOCKS}


def shown_layers(count: int) -> list[int]:
    """Return the layers that are drawn: the first, the last, and two between."""
    return sorted({0, count // 3, 2 * count // 3, count - 1})


def draw_distances(found: Sequence[WeightDistance]) -> Figure:
    """Draw the distances over the block size: a colour per format, lines of their own for both ends."""
    from matplotlib.figure import Figure

    with themed():
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        layers = found[0].layers
        dashes = {0: ":", layers - 1: "-"}
        for mantissa in MANTISSAS:
            for layer in shown_layers(layers):
                row = [d for d in found if d.fmt.mantissa == mantissa and d.layer == layer]
                axes.plot(
                    [d.fmt.block for d in row],
                    [d.distance for d in row],
                    color=style(f"hbfp{mantissa}").colour,
                    linestyle=dashes.get(layer, "--"),
                    marker="o" if layer in dashes else ".",
                    label=f"HBFP{mantissa}, {row[0].path}",
                )
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="values that share an exponent",
            ylabel="Wasserstein distance",
            title="Distance of the weights to FP32",
        )
        axes.set_xticks(BLOCKS, [str(block) for block in BLOCKS])
        axes.minorticks_off()
        figure.legend(loc="outside right upper", fontsize=8)
    return figure


def landscapes(trainers: Mapping[str, Trainer], dataset: Dataset, seed: int = 0) -> dict[str, list[float]]:
    """Return the losses at `STEPS` along one direction, by precision, on the test images of `dataset`."""
    return {name: line(t, _test_images(t, dataset), STEPS, seed).tolist() for name, t in trainers.items()}


def planes(trainers: Mapping[str, Trainer], dataset: Dataset, points: int) -> dict[str, list[list[float]]]:
    """Return the losses at points x points steps from -1 to 1 along two directions, by precision."""
    steps = plane_steps(points)
    return {name: plane(t, _test_images(t, dataset), steps, steps).tolist() for name, t in trainers.items()}


def plane_steps(points: int) -> list[float]:
    """Return the steps along either direction of a plane.

    >>> plane_steps(3)
    [-1.0, 0.0, 1.0]
    """
    return [float(step) for step in np.linspace(-1, 1, points)]


def _test_images(trainer: Trainer, dataset: Dataset) -> DeviceSplit:
    return DeviceSplit.of(dataset, "test", trainer.precision.storage, trainer.device)


def draw_landscapes(losses: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the losses around each network, on a logarithmic scale as in the paper."""
    from matplotlib.figure import Figure

    with themed():
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for name, values in losses.items():
            look = style(name)
            axes.plot(
                STEPS, values, color=look.colour, dashes=look.dashes or (1, 0), label=capital(look.label)
            )
        axes.set(
            yscale="log",
            xlabel="step along a random direction, in lengths of each filter",
            ylabel="mean cross-entropy on the test images",
            title="Loss around the trained weights",
        )
        plain_numbers(axes)
        figure.legend(loc="outside right upper", fontsize=8)
    return figure


def draw_planes(losses: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Draw contours of the losses of `planes`, a panel per precision, all with the same levels."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    grids = {name: np.asarray(grid).T for name, grid in losses.items()}
    steps = plane_steps(len(next(iter(grids.values()))))
    low, high = min(g.min() for g in grids.values()), max(g.max() for g in grids.values())
    levels = np.geomspace(low, max(high, 1.01 * low), 15)
    with themed():
        figure = Figure(figsize=(3.2 * len(grids) + 0.8, 3.6), layout="constrained")
        panels = figure.subplots(1, len(grids), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (name, grid) in zip(panels, grids.items(), strict=True):
            drawn = axes.contourf(steps, steps, grid, levels, norm="log", cmap="viridis", extend="both")
            axes.contour(steps, steps, grid, levels, colors="white", linewidths=0.4)
            axes.plot(0, 0, "+", color="white")
            axes.set(title=capital(style(name).label), aspect="equal")
            axes.grid(False)
        figure.supxlabel("step along a direction, in lengths of each filter")
        figure.supylabel("step along another")
        ticks = LogFormatter(minor_thresholds=(9, 9))
        figure.colorbar(drawn, ax=panels.tolist(), label="mean cross-entropy", format=ticks)
    return figure
