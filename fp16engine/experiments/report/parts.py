"""What a report is made of: tables and pictures, with the raw values next to the words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .labels import NOTHING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Column:
    """A column of a table: the entry of each row it shows, its head, and how a value is written.

    `group` is a head above neighbouring columns that share it.
    """

    key: str
    head: str
    text: Callable[[Any], str] = str
    group: str = ""
    left: bool = False

    def cell(self, row: dict[str, Any]) -> str:
        """Return a row's entry as text, a dash where there is none."""
        value = row.get(self.key)
        return NOTHING if value is None else self.text(value)


@dataclass(frozen=True)
class Table:
    """A table: rows of raw JSON values, and the columns that show them."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[dict[str, Any]]
    note: str = ""

    def cells(self) -> list[list[str]]:
        """Return the rows as text."""
        return [[column.cell(row) for column in self.columns] for row in self.rows]

    def heads(self) -> list[str]:
        """Return the heads, with the group's before them."""
        return [f"{column.group} {column.head}".strip() for column in self.columns]


@dataclass(frozen=True)
class Picture:
    """A picture: a function that draws it (needs matplotlib), its caption, and what it shows in words.

    `values` are the raw values drawn; `wide`: it takes the page's whole width.
    """

    name: str
    title: str
    draw: Callable[[], Figure]
    caption: str
    alt: str
    values: Any = None
    wide: bool = False


@dataclass(frozen=True)
class Claim:
    """A sentence that says what came out, and what the study found."""

    text: str


Part = Table | Picture | Claim
