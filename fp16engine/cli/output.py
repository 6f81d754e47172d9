"""How commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from ..experiments.names import NOTHING


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(value, indent=1, allow_nan=False))


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> None:
    """Print a table on standard output, the first `left` columns to the left, the others to the right.

    Uses rich on a terminal where it is installed, and aligned plain text otherwise.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        try:
            _print_rich(title, head, texts, left)
            return
        except ImportError:
            pass
    lines = [list(head), *texts]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    if title:
        print(title)
    for line in lines:
        cells = [
            t.ljust(w) if i < left else t.rjust(w) for i, (t, w) in enumerate(zip(line, widths, strict=True))
        ]
        print("  " + "  ".join(cells).rstrip())


def _print_rich(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def share(value: float | None) -> str:
    """0.9722 -> "97.22 %", None -> a dash."""
    return NOTHING if value is None else f"{100 * value:.2f} %"


def megabytes(value: float | None) -> str:
    """1500000 -> "1.5 MB", None -> a dash."""
    return NOTHING if value is None else f"{value / 1e6:,.1f} MB"


def plain(value: float | None, digits: int = 0) -> str:
    """1234.5 -> "1,234", None -> a dash."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def short(value: float | None) -> str:
    """0.00123 -> "0.0012", None -> a dash."""
    return NOTHING if value is None else f"{value:.2g}"
