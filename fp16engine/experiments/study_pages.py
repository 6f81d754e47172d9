"""The report of experiments: one page that needs nothing but itself, pictures, CSV and JSON next to it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

from .._version import __version__
from ..reporting.files import make_folder, write_atomically
from ..reporting.history import SUMMARY
from .experiment import Results
from .report.page_plots import PLOTS, Plot
from .report.pages import REPORT, environment, missing
from .report.parts import Claim, Part, Picture, Table
from .runs.results_dir import write_json
from .runs.spec import canonical
from .runs.store import DONE, FAILED, Store

RUNS_JSON, RUNS_CSV = "results.json", "results.csv"
_TITLE = "Experiments, repeated with fp16engine"


Reported = tuple[Results, Sequence[Part]]  # an experiment's results, and what it makes of them


def write(all_results: Sequence[Results], store: Store, out: Path) -> dict[str, Any]:
    """Write the store's export, a CSV per table, pictures and page to `out`; return the summary.

    Without matplotlib and jinja2 there are no pictures and no page; `report_missing` says how to get them.
    """
    reported = [(results, results.experiment.report(results)) for results in all_results]
    for _, parts in reported:
        for part in parts:
            if isinstance(part, Table):
                write_atomically(out / f"{part.name}.csv", _csv(part))
    write_atomically(out / RUNS_JSON, _lines(store.export(measured=True)))
    write_atomically(out / RUNS_CSV, store.export_csv())
    lacking, finished = missing(), _now()
    if lacking is None:
        write_page(reported, out, __version__, finished)
    document = {
        "version": __version__,
        "finished": finished,
        "experiments": [_summary(results, parts) for results, parts in reported],
        "report": REPORT if lacking is None else None,
        "report_missing": lacking,
    }
    write_json(out / SUMMARY, document)
    return document


def write_page(reported: Sequence[Reported], out: Path, version: str, finished: str) -> None:
    """Draw the pictures into out/plots and write the page; `version` and `finished` are those of the runs."""
    page = (
        environment()
        .get_template("study.html.j2")
        .render(
            title=_TITLE,
            sections=[_section(results, parts, out / PLOTS) for results, parts in reported],
            machine=_machine([results for results, _ in reported]),
            version=version,
            date=finished[:10],
        )
    )
    write_atomically(out / REPORT, page)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _summary(results: Results, parts: Sequence[Part]) -> dict[str, Any]:
    return {
        "name": results.experiment.name,
        "title": results.experiment.title,
        "reductions": results.reductions(),
        "runs": {status: results.count(status) for status in (DONE, FAILED)} | {"all": len(results.runs)},
        "findings": [part.text for part in parts if isinstance(part, Claim)],
        "tables": {part.name: _table(part) for part in parts if isinstance(part, Table)},
        "pictures": {part.name: raw(part.values) for part in parts if isinstance(part, Picture)},
        "failures": _failures(results),
    }


def raw(value: Any) -> Any:
    """Return a value with dataclasses as objects and nan as null, for JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(k): raw(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [raw(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(export: Mapping[str, Any]) -> str:
    """Return a store's export as JSON, a line per run and pair, so that changes can be seen."""
    parts = [
        f"{json.dumps(name)}: [\n" + ",\n".join(canonical(one) for one in value) + "\n]"
        if isinstance(value, list)
        else f"{json.dumps(name)}: {canonical(value)}"
        for name, value in export.items()
    ]
    return "{" + ",\n".join(parts) + "}\n"


def _table(table: Table) -> dict[str, Any]:
    """Return a table as JSON: what is read (heads, cells), and the raw values behind it (rows)."""
    rows = [raw(row) for row in table.rows]
    return {"title": table.title, "heads": table.heads(), "cells": table.cells(), "rows": rows}


def _failures(results: Results) -> list[dict[str, Any]]:
    """Return the reasons of failed runs, each with the runs that failed for it."""
    found: dict[str, list[str]] = {}
    for _, row in results.runs:
        if row.status == FAILED:
            found.setdefault(row.reason or "", []).append(row.spec.label)
    return [{"reason": reason, "runs": labels} for reason, labels in found.items()]


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.heads())
    writer.writerows(table.cells())
    return text.getvalue()


def _section(results: Results, parts: Sequence[Part], folder: Path) -> dict[str, Any]:
    make_folder(folder)
    reductions = results.reductions()
    foot = "Reduced: " + "; ".join(reductions) if reductions else "The study's full protocol."
    done, failed, every = results.count(DONE), results.count(FAILED), len(results.runs)
    return {
        "name": results.experiment.name,
        "title": results.experiment.title,
        "claim": results.experiment.claim,
        "reductions": reductions,
        "findings": [part.text for part in parts if isinstance(part, Claim)],
        "tables": [_shown(part) for part in parts if isinstance(part, Table)],
        "plots": [_plot(part, foot, folder) for part in parts if isinstance(part, Picture)],
        "failures": _failures(results),
        "every": every,
        "runs": f"{done} of {every} runs done" + (f", {failed} failed" if failed else ""),
    }


def _shown(table: Table) -> dict[str, Any]:
    """Return a table as the page's template takes it, with heads above columns that belong together."""
    groups = []
    for (text, left), columns in groupby(table.columns, key=lambda column: (column.group, column.left)):
        groups.append({"text": text, "span": len(list(columns)), "left": left})
    grouped = any(column.group for column in table.columns)
    return {
        "title": table.title,
        "groups": groups if grouped else [],
        "columns": table.columns,
        "cells": table.cells(),
        "note": table.note,
    }


def _plot(picture: Picture, foot: str, folder: Path) -> Plot:
    from markupsafe import Markup

    from .report import plots

    figure = picture.draw()
    plots.footnote(figure, foot)
    svg = Markup(plots.save(figure, folder, picture.name))
    return Plot(picture.name, svg, picture.caption, picture.alt, picture.wide)


def _machine(all_results: Sequence[Results]) -> list[tuple[str, str]]:
    """Return what the runs say about the machines they ran on, each value once."""
    found: dict[str, dict[str, None]] = {}
    for results in all_results:
        for _, row in results.runs:
            for name, value in row.measured.get("machine", {}).items():
                if value is not None:
                    found.setdefault(name, {})[str(value)] = None
    return [(name.replace("_", " "), ", ".join(values)) for name, values in found.items()]
