"""The documentation site: it builds without a warning, names everything public, and its links lead somewhere.

A site that was built already is taken from the folder that FP16ENGINE_SITE names.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import public_names
import pytest

import fp16engine as fe

ROOT = Path(__file__).parent.parent
NEEDED = ("sphinx", "myst_parser", "furo", "sphinx_argparse_cli")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


def _built(folder: Path) -> Path:
    ready = os.environ.get("FP16ENGINE_SITE")
    if ready:
        return Path(ready)
    if MISSING:
        pytest.skip(f"{MISSING[0]} is not installed: pip install '.[docs]'")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(ROOT / "docs"),
        str(folder),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(fe.__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def inventory(file: Path) -> set[str]:
    """Return the Python names of a Sphinx inventory, version 2."""
    packed = file.read_bytes().split(b"\n", 4)[4]
    lines = (line.split(" ") for line in zlib.decompress(packed).decode().splitlines())
    return {name for name, kind, *_ in lines if kind.startswith("py:")}


def _groups() -> Iterator[tuple[str, set[str]]]:
    """Yield each public name with all names of the same object: a page under one of them is enough."""
    same: dict[int, set[str]] = {}
    found: list[tuple[str, set[str]]] = []
    for module, keys in public_names.names():
        for key in keys:
            value = getattr(public_names.module(module), key)
            name = ".".join(part for part in ("fp16engine", module, key) if part)
            own = same.setdefault(id(value), set())
            own.add(value.__name__ if inspect.ismodule(value) else name)
            found.append((name, own))
    yield from found


def _torch_names() -> list[str]:
    """Return the public names of `fp16engine.torch` without importing it: PyTorch may be absent."""
    tree = ast.parse((ROOT / "fp16engine" / "torch" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [f"fp16engine.torch.{key}" for key in ast.literal_eval(node.value)]
    raise AssertionError("fp16engine.torch must have an __all__")


def without_page(described: set[str]) -> list[str]:
    """Return the public names that are not in an inventory under any name of theirs."""
    missing = [name for name, names in _groups() if not names & described]
    return sorted({*missing, *(name for name in _torch_names() if name not in described)})


class _Page(HTMLParser):
    """Collects what a page links to and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "id" and value:
                self.anchors.add(value)
            elif key in ("href", "src") and value and ":" not in value.split("/")[0]:
                self.targets.append(value)


def broken_links(pages: Mapping[Path, str]) -> list[str]:
    """Return the links between pages, or to files next to them, that lead nowhere."""
    parsed = {path.resolve(): _Page(text) for path, text in pages.items()}
    found = []
    for path, page in parsed.items():
        for link in page.targets:
            target, anchor = urldefrag(link)
            file = (path.parent / unquote(target.partition("?")[0])).resolve() if target else path
            known = parsed[file].anchors if file in parsed else None
            if not file.exists() or (anchor and known is not None and unquote(anchor) not in known):
                found.append(f"{path.name}: {link}")
    return found


@pytest.mark.slow
def test_site_is_whole(tmp_path: Path) -> None:
    site = _built(tmp_path / "site")
    described = inventory(site / "objects.inv")
    assert not without_page(described)
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert not broken_links(pages)
    assert len(pages) > 30
    assert [
        path for path, text in pages.items() if "Copyright" in text.partition('<div class="copyright">')[2]
    ] == []
    assert all("_static/drawings.css" in pages[site / name] for name in ("glossary.html", "hbfp.html"))


def test_a_name_without_a_page_is_found() -> None:
    all_names = {name for _, names in _groups() for name in names} | set(_torch_names())
    assert without_page(all_names) == []
    lacking = all_names - {"fp16engine.nn.Linear", "fp16engine.torch.SGD", "fp16engine.Trainer"}
    assert without_page(lacking) == ["fp16engine.nn.Linear", "fp16engine.torch.SGD"]  # train.Trainer is there


def test_a_broken_link_of_the_site_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<p id="here"><a href="#here"><a href="page.html#here"><a href="https://example.org/x">')
    good = page.read_text()
    assert broken_links({page: good}) == []
    links = '<a href="#gone"><img src="no.png"><a href="page.html#gone">'
    found = broken_links({page: good + links})
    assert found == ["page.html: #gone", "page.html: no.png", "page.html: page.html#gone"]
