"""The examples in docstrings run as written."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

import pytest

import fp16engine as fe

# Compiled modules have no docstrings of ours, and __main__ runs the command line.
MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(fe.__path__, "fp16engine.")
    if not name.rpartition(".")[2].startswith(("_cpu", "_cuda", "_simt", "__main__"))
)


class Finder(doctest.DocTestFinder):
    """Finds the examples of decorated functions, too."""

    def _from_module(self, module: ModuleType | None, object: Any) -> bool:
        return super()._from_module(module, inspect.unwrap(object))  # type: ignore[misc]


def _examples(module: ModuleType) -> tuple[int, int]:
    """Run the examples of a module: how many failed, of how many."""
    runner = doctest.DocTestRunner()
    for test in Finder().find(module, module.__name__):
        runner.run(test)
    result = runner.summarize()
    return result.failed, result.attempted


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fp16engine"):
            raise
        pytest.skip(f"needs {error.name}")
    state = fe.random.get_state()
    failed, _ = _examples(module)
    fe.random.set_state(state)
    assert failed == 0


def test_examples_of_decorated_functions_are_run() -> None:
    assert _examples(importlib.import_module("fp16engine.ops._reduce"))[1] >= 6
