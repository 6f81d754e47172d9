"""What this machine has, what the engine will use of it, and what to install for more."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from . import backend as backends
from ._version import __version__
from .backend.gpu import cuda_libraries, cuda_module
from .backend.gpu.cuda_libraries import Found
from .bounded import machine_memory
from .errors import BackendUnavailable

# extra -> (what it adds, {module: distribution})
EXTRAS = {
    "report": ("plots and report.html of compare", {"matplotlib": "matplotlib", "jinja2": "jinja2"}),
    "data": ("image folders and downloads", {"PIL": "pillow", "pooch": "pooch", "requests": "requests"}),
    "text": ("translation", {"tokenizers": "tokenizers", "sacrebleu": "sacrebleu"}),
    "bf16": ("the precisions bf16 and bf16-sr", {"ml_dtypes": "ml_dtypes"}),
    "tensorboard": ("TensorBoard logs of train", {"tensorboardX": "tensorboardX"}),
    "wandb": ("logs of train for Weights & Biases", {"wandb": "wandb"}),
    "trackio": ("logs of train for Trackio", {"trackio": "trackio"}),
    "mlflow": (
        "logs of train for MLflow",
        {"mlflow": "mlflow-skinny", "sqlalchemy": "sqlalchemy", "alembic": "alembic"},
    ),
}
_PACKAGES = (
    "numpy",
    "safetensors",
    "rich",
    "ml_dtypes",
    "matplotlib",
    "jinja2",
    "pillow",
    "pooch",
    "tokenizers",
    "sacrebleu",
    "tensorboardX",
    "torch",
    "cupy-cuda13x",
)
_FLAGS = ("f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return what a result needs next to it: CPU, cores, threads, ISA path, system, versions.

    Values that cannot be found out are None. Loads the backend of `device`; one that is not available
    leaves `isa` and `threads` None.
    """
    try:
        info = backend_info(device)
    except BackendUnavailable:
        info = {}
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "threads": info.get("threads"),
        "isa": info.get("isa"),
        "memory_bytes": machine_memory(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "fp16engine": __version__,
        "device": device,
    }


def backend_info(device: str) -> dict[str, Any]:
    """Return what the backend of `device` says about itself (`info()`), {} if it says nothing.

    Raises BackendUnavailable if the device has no backend here.
    """
    backend: Any = backends.get(device)
    return dict(backend.info()) if backend.capabilities.info else {}


def cpu_model() -> str | None:
    """Return the processor's name, or None where the system does not tell."""
    lines = _cpuinfo()
    for key in ("model name", "hardware", "cpu model"):
        if lines.get(key):
            return lines[key]
    return platform.processor() or None


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def report() -> dict[str, Any]:
    """Look at everything and return it as JSON values; never raises for something that is missing.

    Keys: version, machine, cpu_features, cpu_backend, cuda_backend, gpu, packages, extras, devices,
    self_test, cuda_self_test, advice, ok. `ok` is False when the CPU backend is not available, or the
    self-test of an available backend fails.
    """
    features = sorted(set(_cpuinfo().get("flags", "").split()) & set(_FLAGS))
    cpu, cuda = _backend("cpu"), _backend("cuda")
    test = self_test("cpu") if cpu["available"] else None
    cuda_test = self_test("cuda") if cuda["available"] else None
    result = {
        "version": __version__,
        "machine": machine(),
        "cpu_features": features,
        "cpu_backend": cpu,
        "cuda_backend": cuda,
        "gpu": gpu(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "extras": [extra for extra in map(_extra, EXTRAS) if extra["missing"]],
        "devices": backends.devices(),
        "self_test": test,
        "cuda_self_test": cuda_test,
        "ok": bool(test and test["passed"] and (cuda_test is None or cuda_test["passed"])),
    }
    result["advice"] = list(_advice(result))
    return result


def _backend(device: str) -> dict[str, Any]:
    try:
        return {"available": True, "reason": None, **backend_info(device)}
    except (BackendUnavailable, ImportError, OSError) as error:  # a broken build is a finding, not a crash
        return {"available": False, "reason": f"{error}"}


def self_test(device: str) -> dict[str, Any]:
    """Run one FP16 convolution, forward and backward, on `device` and compare it with the reference backend.

    The inputs are small integers, so that every sum is exact in any order and the results must be equal.
    Returns passed, the largest absolute error per result, why it did not end or None, and seconds.
    """
    generator = np.random.default_rng(0)
    x = generator.integers(-2, 3, (2, 9, 8, 5)).astype(np.float16)
    w = generator.integers(-2, 3, (7, 3, 3, 5)).astype(np.float16)
    dy = generator.integers(-2, 3, (2, 9, 8, 7)).astype(np.float16)
    start = time.perf_counter()
    errors, reason = {}, None
    try:
        results = {name: _convolve(name, x, w, dy) for name in (device, "reference")}
        errors = {
            part: float(np.abs(got.astype(np.float64) - want.astype(np.float64)).max())
            for part, got, want in zip(("y", "dx", "dw"), results[device], results["reference"], strict=True)
        }
    except (RuntimeError, ValueError, MemoryError) as error:  # BackendUnavailable too: a part left out
        reason = " ".join(str(error).split())
    return {
        "what": "FP16 convolution, forward and backward, against the reference backend",
        "passed": reason is None and all(error == 0 for error in errors.values()),
        "max_error": errors,
        "reason": reason,
        "seconds": round(time.perf_counter() - start, 3),
    }


def _convolve(device: str, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
    backend = backends.get(device)
    x, w, dy = (backend.from_numpy(a) for a in (x, w, dy))
    pads, stride = (1, 1, 1, 1), (1, 1)
    y = backend.conv2d_forward(x, w, None, stride, pads, 1, "float32")
    dx, dw, _ = backend.conv2d_backward(x, w, dy, stride, pads, 1, (True, True, False), "float32")
    return [backend.to_numpy(a) for a in (y, dx, dw)]


def gpu() -> dict[str, Any]:
    """Return the NVIDIA GPUs, driver, cuBLAS and cuDNN found here, each with how to get it if it is not.

    Looks for the driver library and where the CUDA backend looks for its libraries; nothing is initialised
    beyond the driver's own query calls, and a broken driver is reported, not raised.
    """
    libraries = cuda_libraries.find()
    result: dict[str, Any] = {
        "backend_built": cuda_module.found() is not None,
        "devices": [],
        "driver": None,
        "driver_missing": None,
        "cublas": _library(libraries["cublasLt"]),
        "cudnn": _library(libraries["cudnn"]),
    }
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        result["driver_missing"] = "no NVIDIA driver (libcuda.so.1) on this machine"
        return result
    status = driver.cuInit(0)
    if status != 0:
        result["driver_missing"] = f"the NVIDIA driver is there but does not start (cuInit returned {status})"
        return result
    version, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(count))
    result["driver"] = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    for index in range(count.value):
        name = ctypes.create_string_buffer(128)
        driver.cuDeviceGetName(name, 128, index)
        result["devices"].append(name.value.decode(errors="replace"))
    return result


def _library(found: Found | None) -> str | None:
    """Return where a CUDA library is and its file's name, None if it is not here."""
    return f"{found.source}: {Path(found.path).name}" if found else None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _extra(name: str) -> dict[str, Any]:
    adds, modules = EXTRAS[name]
    missing = [dist for module, dist in modules.items() if importlib.util.find_spec(module) is None]
    return {"extra": name, "adds": adds, "missing": missing, "install": f"pip install 'fp16engine[{name}]'"}


def _advice(result: dict[str, Any]) -> Iterator[str]:
    cpu, graphics = result["cpu_backend"], result["gpu"]
    if not cpu["available"]:
        yield cpu["reason"]
    elif not result["self_test"]["passed"]:
        yield (
            result["self_test"]["reason"]
            or "The CPU backend gives wrong convolutions on this machine: please report this output."
        )
    elif cpu.get("isa") == "portable":
        yield "This CPU has no AVX2 with F16C: training runs on portable C++ and is several times slower."
    if graphics["devices"] and not result["cuda_backend"]["available"]:
        yield f"A GPU is here, but training runs on the CPU: {result['cuda_backend']['reason']}."
    if result["cuda_self_test"] and not result["cuda_self_test"]["passed"]:
        yield (
            result["cuda_self_test"]["reason"]
            or "The CUDA backend gives wrong convolutions on this machine: please report this output."
        )
    for extra in result["extras"]:
        yield f"{extra['install']} adds {extra['adds']} (missing: {', '.join(extra['missing'])})."
