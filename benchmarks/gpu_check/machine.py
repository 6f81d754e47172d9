"""The part `environment`, and where a machine has headers and tools."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from gpu_check.part import BUILD, ROOT, Run, command, version

PACKAGES = (
    "torch", "triton", "cupy-cuda13x", "numpy", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cuda-nvrtc",
    "nvidia-cuda-runtime", "nvidia-cuda-nvcc", "nvidia-cudnn-frontend", "pybind11", "cmake", "ninja",
    "pytest", "pytest-xdist", "hypothesis",
)  # fmt: skip
TOOLS = ("nvcc", "compute-sanitizer", "ncu", "nsys", "cmake", "ninja", "c++")
HEADERS = ("cublasLt.h", "cudnn.h", "nvrtc.h", "cudnn_frontend.h")


def import_path() -> list[str]:
    """Return the folders of wheels: this interpreter's, and those that `build` has unpacked wheels into."""
    own = sorted((BUILD / "venv" / "lib").glob("python*/site-packages"))
    return [*map(str, own), *sys.path]


def header_folders() -> list[Path]:
    """Return where headers may be: those of NVIDIA's wheels, then the toolkit."""
    before = list(sys.path)
    sys.path[:] = [str(ROOT / "cmake"), *import_path()]
    try:
        import nvidia_folders

        wheels = list(nvidia_folders.headers())
    finally:
        sys.path[:] = before
    return [*wheels, *(root / "include" for root in toolkits())]


def toolkits() -> Iterator[Path]:
    """Yield where a CUDA toolkit may be."""
    roots = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    yield from (Path(root) for root in roots if root)


def tool(name: str) -> str | None:
    """Return a program: a toolkit's, on PATH, or of one of NVIDIA's wheels."""
    wheels = [f for entry in import_path() for f in sorted(Path(entry).glob("nvidia/*/bin"))]
    own = BUILD / "venv" / "bin"  # cmake and ninja of --wheels
    folders = [
        own,
        *(root / "bin" for root in toolkits()),
        *map(Path, os.environ["PATH"].split(":")),
        *wheels,
    ]
    found = (shutil.which(name, path=str(folder)) for folder in folders)
    return next(filter(None, found), None)


def environment(run: Run) -> None:
    """Device, driver, versions, headers and tools; writes nothing but what it found."""
    query = "name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit,compute_cap"
    folders = header_folders()
    gpus = command("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader") or ""
    nvcc = tool("nvcc")
    said = command(nvcc, "--version") or "" if nvcc else ""
    run.save(
        {
            "gpus": gpus.splitlines(),
            "query": query,
            "commit": command("git", "-C", str(ROOT), "rev-parse", "HEAD"),
            "nvcc": re.search(r"release [\d.]+, V[\d.]+|$", said)[0] or None,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cores": len(os.sched_getaffinity(0)),
            "packages": {name: version(name) for name in PACKAGES},
            "tools": {name: tool(name) for name in TOOLS},
            "headers": {
                name: next((str(folder) for folder in folders if (folder / name).is_file()), None)
                for name in HEADERS
            },
        }
    )
