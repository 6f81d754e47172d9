"""Fixtures of the whole suite: the backends of this machine, each as a parameter."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fp16engine import backend as backends

# With --import-mode=importlib nothing puts this folder, where bounds.py and op_cases.py lie, on the path.
sys.path.insert(0, str(Path(__file__).parent))

_MISSING = {"cpu": "the compiled module fp16engine._cpu is not built"}


def _backends() -> list[Any]:
    names = ["reference"]
    built = importlib.util.find_spec("fp16engine._cpu") is not None
    skip = pytest.mark.skip(reason=_MISSING["cpu"])
    return [*names, pytest.param("cpu", marks=() if built else skip)]


@pytest.fixture(params=_backends())
def backend_name(request: pytest.FixtureRequest) -> str:
    """The device name of each backend in turn; one that is not built skips with the reason."""
    name: str = request.param
    return name


@pytest.fixture
def backend(backend_name: str) -> Any:
    """The backend called `backend_name`."""
    return backends.get(backend_name)


@pytest.fixture
def reference() -> Any:
    """The NumPy backend that defines the semantics."""
    return backends.get("reference")


@pytest.fixture
def cpu() -> Any:
    """The compiled CPU backend; skips where it is not built."""
    if importlib.util.find_spec("fp16engine._cpu") is None:
        pytest.skip(_MISSING["cpu"])
    return backends.get("cpu")


@pytest.fixture
def threads(cpu: Any) -> Iterator[Any]:
    """The CPU backend, whose number of threads is put back after the test."""
    before = cpu.info()["threads"]
    yield cpu
    cpu.set_num_threads(before)
