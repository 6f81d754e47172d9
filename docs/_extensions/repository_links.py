"""Sphinx extension: links between files of the repository, as GitHub shows them, are links between pages.

A page may show a file from outside docs/ (`{include}`); links in it are relative to that file, not to the
page. A link to an example goes to its heading on the page that shows them all.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

# Files outside docs/ that a page of the site shows.
PAGES = {
    "README.md": "project/readme.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "examples/README.md": "examples.md",
}
ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)([^)]*\))")
_CODE = re.compile(r"(^```.*?^```|``?[^`\n]+``?)", re.MULTILINE | re.DOTALL)


def rewrite(text: str, file: Path, page: Path) -> str:
    """Return the Markdown of `file` with its links made relative to `page`; both are absolute paths."""

    def link(match: re.Match[str]) -> str:
        target = (file.parent / match[2]).resolve()
        name = os.path.relpath(target, ROOT).replace(os.sep, "/")
        if name.startswith("examples/") and name.endswith(".py"):
            heading = target.name.replace(".", "")
            return f"{match[1]}{_relative(page, 'examples.md')}#{heading})"
        if name in PAGES:
            target = ROOT / "docs" / PAGES[name]
        return f"{match[1]}{_relative(page, target)}{match[3]}"

    parts = _CODE.split(text)
    return "".join(part if index % 2 else _LINK.sub(link, part) for index, part in enumerate(parts))


def _relative(page: Path, target: str | Path) -> str:
    return os.path.relpath(ROOT / "docs" / target, page.parent).replace(os.sep, "/")


def _page(app: Any, docname: str) -> Path:
    return Path(app.env.doc2path(docname)).resolve()


def _on_source(app: Any, docname: str, source: list[str]) -> None:
    page = _page(app, docname)
    if page.suffix == ".md":
        source[0] = rewrite(source[0], page, page)


def _on_include(app: Any, path: Path, parent: str, content: list[str]) -> None:
    file = (Path(app.srcdir) / path).resolve()
    if file.suffix == ".md":
        content[0] = rewrite(content[0], file, _page(app, app.env.docname))


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", _on_source)
    app.connect("include-read", _on_include)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
