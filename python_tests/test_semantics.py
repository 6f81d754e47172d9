"""docs/semantics.md describes the operations of backend/base.py, all of them and no others."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from fp16engine.backend.base import Backend

TEXT = (Path(__file__).parent.parent / "docs" / "semantics.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^### `(\w+)`\n`(\w+)\(([^)]*)\)`", TEXT, re.MULTILINE)
OPERATIONS = {
    name: list(inspect.signature(function).parameters)[1:]
    for name, function in vars(Backend).items()
    if inspect.isfunction(function) and not name.startswith("_")
}


def test_every_operation_has_a_section() -> None:
    headings = re.findall(r"^### `(\w+)`$", TEXT, re.MULTILINE)
    assert headings == [name for name, _, _ in SECTIONS]
    assert headings == list(OPERATIONS), "in the order of base.py"


def test_sections_name_the_arguments() -> None:
    described = {called: [a for a in arguments.split(", ") if a] for _, called, arguments in SECTIONS}
    assert described == OPERATIONS
