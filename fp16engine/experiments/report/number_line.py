"""The page of a monitored training run: what was found, and the heat maps. Needs the extra `report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...numerics import words
from ...reporting.files import make_folder, write_atomically
from . import page_plots, pages
from .heatmaps import lost_updates, samples, underflowed_gradients
from .labels import epochs, label

REPORT = pages.REPORT


def write(out: Path, summary: dict[str, Any]) -> str | None:
    """Write out/report.html from the samples in out/metrics.jsonl; return its name.

    summary: what `fp16engine train` writes to summary.json, with `findings`. Returns None, and writes
    nothing, where matplotlib or jinja2 is missing or fewer than two steps were looked at.
    """
    precision = summary["precision"]
    heading = f"{summary['model']} on {summary['data']}, {label(precision)}, {epochs(summary['epochs'])}"
    return page(out, precision, heading, "fp16engine train", summary["findings"])


def page(
    out: Path, precision: str, heading: str, made_by: str, findings: Sequence[Mapping[str, Any]]
) -> str | None:
    """Do what `write` does, for any run: heading and made_by are words of the page."""
    if pages.missing() is not None:
        return None
    rows = samples(out)
    plots = page_plots.heat_plots(out, precision, _folder(out))
    if not plots:
        return None
    text = (
        pages.environment()
        .get_template("number_line.html.j2")
        .render(
            heading=heading,
            made_by=made_by,
            plots=plots,
            steps=[row["step"] for row in rows],
            findings=findings,
            losses=[
                words.worst(underflowed_gradients(rows), words.GRADIENTS),
                words.worst(lost_updates(rows), words.UPDATES),
            ],
        )
    )
    write_atomically(out / REPORT, text)
    return REPORT


def _folder(out: Path) -> Path:
    folder = out / page_plots.PLOTS
    make_folder(folder)
    return folder
