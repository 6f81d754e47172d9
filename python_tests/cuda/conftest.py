"""The CUDA backend on a GPU made of the simulator (fake_gpu.py): its own code, on any machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from fp16engine import backend as backends
from fp16engine.backend.gpu import cuda as cuda_backend


@pytest.fixture
def gpu() -> Iterator[Any]:
    """fake_gpu.py, whose log is empty, with nothing under way."""
    for module in ("_cpu", "_simt"):
        if importlib.util.find_spec(f"fp16engine.{module}") is None:
            pytest.skip(f"fp16engine.{module} is not built")
    import fake_gpu  # loads the simulator

    fake_gpu.log.clear()
    fake_gpu.in_flight.clear()
    fake_gpu._devices[:] = [0]
    yield fake_gpu
    fake_gpu.log.clear()


@pytest.fixture
def cuda(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The CUDA backend on it, as device "cuda"."""
    backend = cuda_backend.CudaBackend(gpu.Native(), gpu, 0, "cuda")
    monkeypatch.setattr(backends, "_loaded", {**backends._loaded, "cuda": backend})
    yield backend
    cuda_backend._active.__dict__.clear()
