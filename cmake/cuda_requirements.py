"""What a build of the CUDA module needs beyond pyproject.toml: headers, and nvcc where there is none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OPTION = "FP16ENGINE_CUDA"
# Major versions as of the extra cuda13-libraries; cudnn-frontend is all headers: one version.
HEADERS = (
    "nvidia-cublas>=13,<14",
    "nvidia-cudnn-cu13>=9.10,<10",
    "nvidia-cuda-nvrtc>=13,<14",
    "nvidia-cudnn-frontend==1.32.0",
)
# The nvcc of the oldest driver that CUDA 13 runs on, and the headers that cuda_fp16.h includes.
COMPILER = ("nvidia-cuda-nvcc==13.0.*", "nvidia-cuda-cccl==13.0.*")


def requirements(settings: Mapping[str, Any] | None) -> list[str]:
    """Return what the builder's environment shall have, [] where the module will be left out.

    settings: pip's --config-settings; the module is built as cmake/Cuda.cmake says.
    """
    mode = asked(settings).upper()
    wanted = gpu() if mode == "AUTO" else mode in ("ON", "1", "YES", "TRUE", "Y")
    return [*HEADERS, *(() if nvcc() else COMPILER)] if wanted else []


def asked(settings: Mapping[str, Any] | None) -> str:
    """Return the option as scikit-build-core reads it: a setting, else of SKBUILD_CMAKE_DEFINE, else AUTO."""
    named = (settings or {}).get(f"cmake.define.{OPTION}")
    if named is None:
        defined = re.search(rf"(?:^|;){OPTION}=([^;]*)", os.environ.get("SKBUILD_CMAKE_DEFINE", ""))
        named = defined[1] if defined else "AUTO"
    return str(named)


def gpu() -> bool:
    """Tell whether nvidia-smi names a GPU that CUDA 13 compiles for."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.findall(r"^(\d+)\.(\d)$", done.stdout, re.MULTILINE)
    return done.returncode == 0 and any(int(major + minor) >= 75 for major, minor in found)


def nvcc() -> bool:
    """Tell whether cmake/Cuda.cmake will find a CUDA compiler that is no wheel's."""
    if os.environ.get("CUDACXX") or shutil.which("nvcc"):
        return True
    roots = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    return any(root and Path(root, "bin", "nvcc").is_file() for root in roots)
