"""Tables and sentences as lines of text that fit a width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

_SHORTEST_NAME = 12


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Break a text between words; a word that is longer than the width stays whole."""
    return textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [""]


def table_lines(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: int, width: int | None
) -> list[str]:
    """Return the lines of a table that is at most `width` wide, if its words allow; None is any width."""
    cells = [max(map(len, column), default=0) for column in zip(*rows, strict=True)] or [0] * len(head)
    for heads in ([[name] for name in head], [name.split() or [""] for name in head]):
        words = [max(map(len, parts)) for parts in heads]
        widths = [max(pair) for pair in zip(cells, words, strict=True)]
        excess = 0 if width is None else sum(widths) + 2 * len(widths) - width
        if excess <= 0:
            return _aligned(heads, rows, widths, left)
    room = widths[0] - excess
    names = [shortened(row[0], room) for row in rows] if room >= max(_SHORTEST_NAME, words[0]) else []
    if names and len(set(names)) == len({row[0] for row in rows}):  # they still tell the rows apart
        whole = [[name, *row[1:]] for name, row in zip(names, rows, strict=True)]
        return _aligned(heads, whole, [room, *widths[1:]], left)
    return [line for row in rows for line in _stacked(head, row, width or 0)]


def _aligned(
    heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], widths: Sequence[int], left: int
) -> list[str]:
    height = max(map(len, heads))
    above = [[*[""] * (height - len(parts)), *parts] for parts in heads]
    lines = [*zip(*above, strict=True), *rows]
    texts = [
        [t.ljust(w) if i < left else t.rjust(w) for i, (t, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    return [("  " + "  ".join(line)).rstrip() for line in texts]


def _stacked(head: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """Return a row as its name and a line per further cell."""
    lines = wrapped(f"  {row[0]}", width, "    ")
    for name, cell in zip(head[1:], row[1:], strict=True):
        lines += wrapped(f"    {name}: {cell}" if name else f"    {cell}", width, "      ")
    return lines


def shortened(name: str, width: int) -> str:
    """Return a name in at most `width` characters: its middle goes, since its end tells it apart.

    >>> shortened("stage3.block2.conv1", 14)
    'sta…ock2.conv1'
    """
    if len(name) <= width:
        return name
    begin = (width - 1) // 4
    return f"{name[:begin]}…{name[len(name) - (width - 1 - begin) :]}"
