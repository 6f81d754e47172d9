"""Fixtures of the whole suite: the backends of this machine, each as a parameter."""

from __future__ import annotations

import importlib.util
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine.backend.gpu import cuda as cuda_backend

# With --import-mode=importlib nothing puts this folder, where bounds.py and op_cases.py lie, on the path.
sys.path.insert(0, str(Path(__file__).parent))

_MISSING = {
    "cpu": "the compiled module fp16engine._cpu is not built",
    "simt": "the simulator fp16engine._simt is not built, cmake -DFP16ENGINE_SIMT=ON does",
    "cuda": "no GPU, or no CUDA module: 'fp16engine doctor' says what is missing",
}
SCHEDULES = 5
_LEFT_OUT = pytest.StashKey[dict[str, int]]()


@cache
def _built(name: str) -> bool:
    if name == "cuda":
        return cuda_backend.gpus() > 0
    return importlib.util.find_spec(f"fp16engine._{name}") is not None


COMPILED = list(_MISSING)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """One thread for each worker of pytest-xdist; tests of threads ask for several."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)  # before -m selects by the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what the simulator runs, and leave out what needs a device that is not here.

    `pytest_terminal_summary` says how many cases were left out.
    """
    for item in items:
        if "simt" in _words(item) or "simt" in getattr(item, "fixturenames", ()):
            item.add_marker("simt")
    lacking = [name for name in _MISSING if not _built(name)]
    left_out: dict[str, list[pytest.Item]] = {name: [] for name in lacking}
    kept: list[pytest.Item] = []
    for item in items:
        if _bfloat16_on_a_gpu(item):
            continue
        missing = next((name for name in lacking if name in _words(item)), None)
        (kept if missing is None or not _per_device(item) else left_out[missing]).append(item)
    config.stash[_LEFT_OUT] = {name: len(cases) for name, cases in left_out.items() if cases}
    config.hook.pytest_deselected(items=[item for cases in left_out.values() for item in cases])
    items[:] = kept


def _words(item: pytest.Item) -> list[str]:
    """Return those of a test's parameters that are strings."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return [value for value in parameters if isinstance(value, str)]


def _bfloat16_on_a_gpu(item: pytest.Item) -> bool:
    """Whether a case of bfloat16 would run on kernels that have no such type."""
    return _gpu(item) and hasattr(item, "callspec") and "bfloat16" in item.callspec.id


def _gpu(item: Any) -> bool:
    """Whether a test runs on a GPU's kernels, which have no bfloat16."""
    return bool({"simt", "cuda"} & {*_words(item), *getattr(item, "fixturenames", ())})


def _per_device(item: pytest.Item) -> bool:
    """Whether a test takes its device from the fixtures here; others may use such words as they like."""
    return bool({"backend_name", "compiled_name"} & set(getattr(item, "fixturenames", ())))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist sends what it left out to the process that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash[_LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker sent; all collect the same."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line per device that is not here."""
    for name, count in config.stash.get(_LEFT_OUT, {}).items():
        terminalreporter.write_line(f"{count:,} cases on {name!r} not run: {_MISSING[name]}")


@pytest.fixture(scope="session", autouse=True)
def _outside_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Children started with `python -c` import from where they start, and sources hold nothing compiled."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def _own_random_state() -> None:
    """What a test draws does not depend on the tests before it."""
    fe.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_schedule(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of the simulator has an order of threads of its own, and half of them unaligned arrays."""
    if not _built("simt") or "simt" not in _words(request.node):
        yield
        return
    simt: Any = backends.get("simt")
    _draw_schedule(request.node.name)
    yield
    simt.set_schedule(0)
    simt.offset = 0


def _draw_schedule(name: str) -> None:
    """Give the simulator the order of threads and the alignment of arrays that go with a name."""
    simt: Any = backends.get("simt")
    draw = zlib.crc32(name.encode())
    simt.set_schedule(draw % SCHEDULES)
    simt.offset = draw // SCHEDULES % 2


@pytest.fixture
def for_each(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`check_each`; on the simulator every case has an order of threads of its own."""
    from each_case import check_each

    if not _gpu(request.node):
        return check_each

    def draw(name: str) -> None:
        if _built("simt") and "simt" in _words(request.node):
            _draw_schedule(f"{request.node.name} {name}")

    def check(cases: dict[str, Any], test: Callable[..., None]) -> None:
        check_each({name: row for name, row in cases.items() if "bfloat16" not in name}, test, before=draw)

    return check


@pytest.fixture(params=["reference", *COMPILED])
def backend_name(request: pytest.FixtureRequest) -> str:
    """The device name of each backend in turn; one that is not built skips with the reason."""
    name: str = request.param
    return name


@pytest.fixture(params=COMPILED)
def compiled_name(request: pytest.FixtureRequest) -> str:
    """The device name of each backend whose kernels are held to the reference's bits."""
    name: str = request.param
    return name


@pytest.fixture
def compiled(compiled_name: str) -> Any:
    """The backend called `compiled_name`."""
    return backends.get(compiled_name)


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
    if not _built("cpu"):
        pytest.skip(_MISSING["cpu"])
    return backends.get("cpu")


@pytest.fixture
def simt() -> Iterator[Any]:
    """The simulated GPU; skips where it is not built. What a test sets on it is put back."""
    if not _built("simt"):
        pytest.skip(_MISSING["simt"])
    backend: Any = backends.get("simt")
    before = backend.native.num_threads()
    yield backend
    backend.native.set_num_threads(before)
    backend.set_schedule(0)
    backend.offset = 0


@pytest.fixture
def threads(cpu: Any) -> Iterator[Any]:
    """The CPU backend, whose number of threads is put back after the test."""
    before = cpu.info()["threads"]
    yield cpu
    cpu.set_num_threads(before)


@pytest.fixture
def drawn() -> None:
    """Asks for pictures where a folder goes without them."""


@pytest.fixture
def undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Pages without pictures: drawing takes ten times as long as all the rest of a tiny comparison."""
    from fp16engine.experiments.report import plots

    with pytest.MonkeyPatch.context() as patch:
        if "drawn" not in request.fixturenames:
            patch.setattr(plots, "save", lambda figure, folder, name: "<svg></svg>")
        yield


@pytest.fixture(scope="module")
def small_dnn() -> Iterator[None]:
    """The network "dnn" with fewer units, for tests of all that goes on around training."""
    from small_dnn import UNITS, module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HIDDEN", UNITS)
        yield
