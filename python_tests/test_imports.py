"""Imports go one way: no circle between the package's files, nor between its folders.

Imports inside functions count as well. `if TYPE_CHECKING` does not: it never runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fp16engine

PACKAGE = Path(fp16engine.__file__).parent
Graph = Mapping[str, set[str]]


def _modules() -> dict[str, Path]:
    names = {}
    for file in PACKAGE.rglob("*.py"):
        path = file.relative_to(PACKAGE.parent).with_suffix("")
        names[".".join(path.parts).removesuffix(".__init__")] = file
    return names


def _statements(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        yield from _statements(node)


def _imported(name: str, file: Path, modules: Mapping[str, Path]) -> set[str]:
    """Return the modules of the package that one of them imports; a compiled one has no source here."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in _statements(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        above = package[: len(package) - node.level + 1] if node.level else []
        source = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            inner = f"{source}.{alias.name}"
            compiled = source == "fp16engine" and alias.name.startswith("_")
            found.add(inner if inner in modules or compiled else source)
    return {module for module in found if module in modules} - {name}


def _folder(module: str) -> str:
    """Return what stands at the top of the package: a folder or a file."""
    return ".".join(module.split(".")[:2])


def _circle(graph: Graph) -> list[str] | None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


@pytest.fixture(scope="module")
def files() -> Graph:
    modules = _modules()
    return {name: _imported(name, file, modules) for name, file in modules.items()}


def test_no_circle_between_files(files: Graph) -> None:
    assert _circle(files) is None


def test_no_circle_between_folders(files: Graph) -> None:
    folders: dict[str, set[str]] = {}
    for name, imported in files.items():
        folders.setdefault(_folder(name), set()).update(map(_folder, imported - {name}))
    assert _circle({folder: others - {folder} for folder, others in folders.items()}) is None


def test_the_imports_are_found(files: Graph) -> None:
    """At the top, inside a function, of a package, of a module above, and not those for types alone."""
    assert "fp16engine.backend" in files["fp16engine.tensor"]
    assert "fp16engine.cli.commands" in files["fp16engine.cli"]
    assert "fp16engine.ops._check" in files["fp16engine.ops._conv"]
    assert "fp16engine.block_format" in files["fp16engine.backend.reference.quantize"]
    assert "fp16engine.train" not in files["fp16engine.bench.profile"]
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) is not None
