"""The page of a monitored training run: what was found, and the heat maps. Needs the extra `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...numerics import words
from ...reporting.files import make_folder, write_atomically
from . import pages
from .heatmaps import lost_updates, samples, underflowed_gradients

REPORT = pages.REPORT


def write(out: Path, summary: dict[str, Any]) -> str | None:
    """Write out/report.html from the samples in out/metrics.jsonl; return its name.

    summary: what `fp16engine train` writes to summary.json, with `findings`. Returns None, and writes
    nothing, where matplotlib or jinja2 is missing or fewer than two steps were looked at.
    """
    if pages.missing() is not None:
        return None
    rows = samples(out)
    plots = pages.heat_plots(out, summary["precision"], _folder(out))
    if not plots:
        return None
    page = (
        pages.environment()
        .get_template("number_line.html.j2")
        .render(
            s=summary,
            plots=plots,
            steps=[row["step"] for row in rows],
            findings=summary["findings"],
            losses=[
                words.worst(underflowed_gradients(rows), words.GRADIENTS),
                words.worst(lost_updates(rows), words.UPDATES),
            ],
        )
    )
    write_atomically(out / REPORT, page)
    return REPORT


def _folder(out: Path) -> Path:
    folder = out / pages.PLOTS
    make_folder(folder)
    return folder
