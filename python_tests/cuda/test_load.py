"""What is said when a piece of the CUDA backend is missing: that piece, and what brings it."""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine.backend.gpu import cuda, cuda_libraries, cuda_module


class _Machine:
    """A machine whose pieces of the CUDA backend are all there; tests take one away."""

    def __init__(self, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.native = gpu.Native()
        self.modules: dict[str, Any] = {"fp16engine._cuda": self.native, "cupy": gpu}
        self.driver: Callable[[], Any] = lambda: SimpleNamespace(cuInit=lambda flags: 0)
        monkeypatch.setattr(cuda.importlib, "import_module", self._import)
        monkeypatch.setattr(cuda_module.importlib.util, "find_spec", self.modules.get)
        monkeypatch.setattr(ctypes, "CDLL", lambda *name, **mode: self.driver())
        monkeypatch.setattr(
            cuda_libraries, "preload", lambda: {"nvrtc": "n", "cublasLt": "a", "cublas": "b", "cudnn": "c"}
        )
        monkeypatch.setattr(backends, "_loaded", {})

    def _import(self, name: str) -> Any:
        if name in ("fp16engine._cuda", "cupy") or name.startswith(cuda_module.PLUGIN):
            if name not in self.modules:
                raise ImportError(f"No module named {name!r}")
            return self.modules[name]
        return sys.modules.get(name) or importlib.__import__(name, fromlist=["_"])


@pytest.fixture
def machine(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> _Machine:
    return _Machine(gpu, monkeypatch)


def test_everything_there(machine: _Machine) -> None:
    backend: Any = backends.get("cuda")
    assert (backend.name, backend.index) == ("cuda", 0)
    assert machine.native.paths == {"cublasLt": "a", "cudnn": "c"}
    # one GPU, one stream, whatever it is called
    assert backends.get("cuda:0") is backend
    assert backends.get("cuda:1") is not backend
    assert backends.devices()[-2:] == ["cuda:0", "cuda:1"]


def _raises(*words: str) -> None:
    with pytest.raises(fe.BackendUnavailable) as error:
        backends.get("cuda")
    message = str(error.value)
    assert message.startswith("device 'cuda': ") and "\n" not in message
    for word in words:
        assert word in message
    assert not any(device.startswith("cuda") for device in backends.devices())


def test_no_module(machine: _Machine) -> None:
    del machine.modules["fp16engine._cuda"]
    _raises("the CUDA module is not here", "fp16engine[cuda13]", "-C cmake.define.FP16ENGINE_CUDA=ON")


def plugin(machine: _Machine, version: str) -> None:
    """The module is the plugin's, not this package's."""
    machine.modules["fp16engine_cuda13"] = SimpleNamespace(__version__=version)
    machine.modules["fp16engine_cuda13._cuda"] = machine.modules.pop("fp16engine._cuda")


def test_the_plugin(machine: _Machine) -> None:
    plugin(machine, fe.__version__)
    assert cuda_module.found() == "fp16engine_cuda13._cuda"
    assert backends.get("cuda")._module is machine.native  # type: ignore[attr-defined]


def test_a_module_of_its_own_comes_before_the_plugin(machine: _Machine) -> None:
    own = machine.native
    plugin(machine, "0")
    machine.modules["fp16engine._cuda"] = own
    assert cuda_module.found() == "fp16engine._cuda" and backends.get("cuda").name == "cuda"


def test_a_plugin_of_another_version(machine: _Machine) -> None:
    plugin(machine, "9.9")
    version = fe.__version__
    _raises(f"is 9.9, fp16engine {version}; pip install fp16engine-cuda13=={version}")


def test_no_driver(machine: _Machine) -> None:
    def missing() -> Any:
        raise OSError

    machine.driver = missing
    _raises("no NVIDIA driver (libcuda.so.1)", "install NVIDIA's driver")


@pytest.mark.parametrize(
    ("status", "words"), [(100, "finds no GPU"), (999, "does not start (cuInit returned 999)")]
)
def test_driver_without_a_gpu(machine: _Machine, status: int, words: str) -> None:
    machine.driver = lambda: SimpleNamespace(cuInit=lambda flags: status)
    _raises(words)


def test_no_cupy(machine: _Machine) -> None:
    del machine.modules["cupy"]
    _raises("CuPy could not be imported", "pip install 'fp16engine[cuda13-libraries]'")


def test_old_driver(machine: _Machine, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def insufficient() -> int:
        raise gpu.CUDARuntimeError("cudaErrorInsufficientDriver")

    monkeypatch.setattr(gpu.runtime, "getDeviceCount", insufficient)
    _raises("cudaErrorInsufficientDriver", "is the driver as new as CUDA 13?")


def test_no_gpu(machine: _Machine, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.runtime, "getDeviceCount", lambda: 0)
    _raises("this machine has no GPU")


def test_a_module_for_other_gpus(machine: _Machine) -> None:
    machine.native.architectures = "75-real 80-real"
    _raises("built for 75-real 80-real", "this GPU of compute capability 9.0 does not run", "pip install .")


def test_libraries_missing(machine: _Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise fe.BackendUnavailable("cudnn not found on this machine")

    monkeypatch.setattr(cuda_libraries, "preload", missing)
    with pytest.raises(fe.BackendUnavailable, match="cudnn not found"):
        backends.get("cuda")


def test_a_gpu_that_is_not_there(machine: _Machine) -> None:
    with pytest.raises(fe.BackendUnavailable, match=r"device must .* got 'cuda:2'"):
        backends.get("cuda:2")


def test_importing_the_backend_loads_nothing_of_nvidia() -> None:
    import subprocess

    code = (
        "import sys, fp16engine.backend.gpu.cuda\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('cupy', 'cuda') or m.endswith('_cuda')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
