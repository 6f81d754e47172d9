"""The one lookup from a device's name to the backend that computes there.

A package for the engine's own parts; of its names `fe.devices` is public.
"""

from __future__ import annotations

import importlib
import re

from .. import observer
from ..errors import BackendUnavailable
from ..validate import must_be
from .base import Backend

__all__ = ["devices"]

# Each module offers load() -> Backend; nothing is imported before its device is asked for.
_MODULES = {
    "cpu": "fp16engine.backend.cpu",
    "reference": "fp16engine.backend.reference",
    "simt": "fp16engine.backend.gpu.simt",
}
_CUDA = re.compile(r"cuda(:\d+)?")

_loaded: dict[str, Backend] = {}


def get(device: str) -> Backend:
    """Return the backend that computes on `device`, loading it at the first call; observers see its calls.

    Args:
        device: "cpu", "reference" (slow NumPy, defines the semantics), "simt" (the GPU's kernels simulated,
            for tests), or "cuda", "cuda:1".

    Raises:
        BackendUnavailable: the backend, or a module it needs, is not part of this build.
        TypeError, ValueError: `device` is not a string, or names no device.
    """
    backend: Backend = observer.visible(unobserved(device))
    return backend


def unobserved(device: str) -> Backend:
    """Return the same backend without observers around it: an instrument's calls are no part of a step."""
    backend = _loaded.get(device) if isinstance(device, str) else None
    if backend is None:
        backend = _loaded[device] = _load(device)
    return backend


def devices() -> list[str]:
    """Return the devices this machine can compute on: "cpu" if its module is there, and "cuda:0" and so on.

    "reference" and "simt", which are for checks, are not listed.

    >>> import fp16engine as fe
    >>> all(name == "cpu" or name.startswith("cuda:") for name in fe.devices())
    True
    """
    found = []
    try:
        get("cpu")
        found.append("cpu")
    except BackendUnavailable:
        pass
    cuda = importlib.import_module("fp16engine.backend.gpu.cuda")
    return found + [f"cuda:{index}" for index in range(cuda.gpus())]


def _load(device: str) -> Backend:
    if not isinstance(device, str):
        raise TypeError(must_be("device", "a string such as 'cpu'", device))
    if _CUDA.fullmatch(device):
        # "cuda" and "cuda:0" are one GPU, and one backend with one stream
        twin = {"cuda": "cuda:0", "cuda:0": "cuda"}.get(device, device)
        cuda: Backend = _loaded.get(twin) or importlib.import_module("fp16engine.backend.gpu.cuda").load(
            device
        )
        return cuda
    if device not in _MODULES:
        raise ValueError(must_be("device", f"one of {', '.join((*_MODULES, 'cuda'))}", device))
    backend: Backend = importlib.import_module(_MODULES[device]).load()
    return backend
