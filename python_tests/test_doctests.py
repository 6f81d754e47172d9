"""The examples in docstrings run as written."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import fp16engine as fe

# Compiled modules have no docstrings of ours, and __main__ runs the command line.
MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(fe.__path__, "fp16engine.")
    if not name.rpartition(".")[2].startswith(("_cpu", "_cuda", "_simt", "__main__"))
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fp16engine"):
            raise
        pytest.skip(f"needs {error.name}")
    state = fe.random.get_state()
    result = doctest.testmod(module)
    fe.random.set_state(state)
    assert result.failed == 0
