"""What `reproduce` prints of its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .output import print_table, print_text


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
