"""The names and values of the fakes' headers are NVIDIA's, where those are at hand."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAKES = ROOT / "csrc" / "testing" / "fake_cuda" / "include"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))


def _real(monkeypatch: pytest.MonkeyPatch, header: str) -> list[Path]:
    """The folders to include NVIDIA's header from; skips where it is not installed."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    folders = importlib.import_module("gpu_check.machine").header_folders()
    if not any((folder / header).is_file() for folder in folders):
        pytest.skip(f"NVIDIA's {header} is not installed")
    return list(folders)


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
@pytest.mark.parametrize("header", ["cuda_runtime_api.h", "cublasLt.h"])
def test_values_are_nvidias(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, header: str) -> None:
    folders = _real(monkeypatch, header)
    values = re.findall(r"\b((?:CUBLAS|CUDA|cuda)\w+) = (\d+)", (FAKES / header).read_text())
    assert len(values) > 8
    checks = "\n".join(f'static_assert({name} == {value}, "{name}");' for name, value in values)
    source = tmp_path / "check.cpp"
    sizes = "static_assert(sizeof(cublasLtMatmulHeuristicResult_t) == 96);" if header == "cublasLt.h" else ""
    source.write_text(f"#include <{header}>\n{checks}\n{sizes}\n")
    includes = [f"-I{folder}" for folder in folders]
    for include in (includes, [f"-I{FAKES}"]):
        done = subprocess.run(
            [str(COMPILER), "-std=c++17", "-fsyntax-only", "-w", *include, str(source)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
