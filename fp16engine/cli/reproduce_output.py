"""What `reproduce` prints: its report, and how the jobs of a sweep are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output import print_table, print_text

if TYPE_CHECKING:
    from ..experiments.cluster.collect import Collector
    from ..experiments.cluster.status import Status

_SHOWN_REASONS = 20


def print_summary(summary: dict[str, Any], out: Path) -> None:
    """Print the findings and tables of every experiment, why runs failed, and where the report is."""
    for section in summary["experiments"]:
        print(f"\n{section['title']}")
        if section["reductions"]:
            print_text(f"Reduced form: {'; '.join(section['reductions'])}.")
        for finding in section["findings"]:
            print_text(finding)
        for table in section["tables"].values():
            print()
            print_table(table["title"], table["heads"], table["cells"])
        for failure in section["failures"]:
            print_text(f"Failed: {failure['runs'][0]}{_others(failure['runs'])}: {failure['reason']}")
    print(f"\nResults: {out}")
    print(f"Report:  {out / summary['report']}" if summary["report"] else summary["report_missing"])


def _others(runs: list[str]) -> str:
    return "" if len(runs) == 1 else f" and {len(runs) - 1} more"


def print_status(collector: Collector, status: Status) -> None:
    """Print a row per job, why runs failed, and why jobs ended with runs left."""
    from ..reporting.progress import duration

    heads = ("job", "state", "done", "failed", "left", "about", "in progress")
    rows = []
    for job in status.jobs:
        now = "" if job.run is None else f"{job.run}, epoch {job.epoch}/{job.epochs}"
        about = "" if job.seconds is None or not job.left else duration(job.seconds)
        name = job.ids[-1] if job.ids else str(job.number)
        rows.append((name, job.state.words, job.done, job.failed, job.left, about, now))
    print()
    print_table(f"{collector.folder}: {status.line()}", heads, rows, left=2)
    for run, reason in list(status.reasons.items())[:_SHOWN_REASONS]:
        print_text(f"Failed: {run}: {reason}")
    for job in status.jobs:
        if not job.left or job.active:
            continue
        why = job.error or job.state.words
        print_text(
            f"{job.left} runs of job {job.number} are left: {why}; its log: {collector.logs(job.number)}"
        )
