"""How commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from ..experiments.report.labels import NOTHING
from ..reporting.tables import table_lines, wrapped

_NARROWEST = 40


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(value, indent=1, allow_nan=False))


def columns() -> int | None:
    """Return how wide the output may be: that of the terminal or of COLUMNS, None in a pipe."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return None
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def print_text(text: str, indent: str = "") -> None:
    """Print a sentence, wrapped between words where the terminal is narrower; later lines keep the indent."""
    width = columns()
    print("\n".join(wrapped(indent + text, width, indent)) if width else indent + text)


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> None:
    """Print a table on standard output, the first `left` columns to the left, the others to the right.

    Where the terminal is too narrow for it, heads wrap, then names lose their middle, and at last every row
    becomes a block of lines.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    if title:
        print_text(title)
    for line in table_lines(head, texts, left, columns()):
        print(line)


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
