"""Sphinx extension: the docstrings' plain style as reStructuredText."""

from __future__ import annotations

import re
from typing import Any

from sphinx.util import inspect
from sphinx.util.inspect import stringify_signature

_SPAN = re.compile(r"(``?[^`]+``?)")
_OBJECT = re.compile(r"<\w[^<>]*(<\w+>)?[^<>]*>")  # <factory>, <function <lambda>>
_MARK = re.compile(r"\||(?<=\")\*")


def literal_blocks(lines: list[str]) -> None:
    """Mark indented lines between paragraphs, which hold formulas, as literal; in place.

    What is indented under "Args:" or another such word has no empty line before it.
    """
    paragraph = marked = False
    result: list[str] = []
    for line in lines:
        indented = line.startswith("    ")
        if indented and paragraph and not marked and result and not result[-1]:
            result += ["::", ""]
            marked = True
        elif line:
            marked = marked and indented
            if not indented:
                paragraph = not line.endswith(":")
        result.append(line if marked or line.lstrip().startswith(">>>") else escaped(line))
    lines[:] = result


def escaped(line: str) -> str:
    """Return a line whose bars are bars, and whose quoted patterns are text."""
    parts = _SPAN.split(line)
    return "".join(part if index % 2 else _MARK.sub(r"\\\g<0>", part) for index, part in enumerate(parts))


def _on_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    literal_blocks(lines)


def _skips(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of a named tuple, which its own docstring describes."""
    if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number"):
        return True
    return None


def _on_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Give a class with a mocked base its own signature; a default without a name is an ellipsis."""
    if what == "class" and hasattr(obj, "__sphinx_mock__"):  # autodoc finds the mock's signature
        own = inspect.signature(obj.__init__, bound_method=True)
        signature = stringify_signature(own, show_return_annotation=False)
    return signature and _OBJECT.sub("...", signature), returns


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", _on_docstring, priority=100)  # before the sections are read
    app.connect("autodoc-skip-member", _skips)
    app.connect("autodoc-process-signature", _on_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
