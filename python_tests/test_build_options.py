"""FP16ENGINE_CUDA=AUTO|ON|OFF decides as it says, on made-up machines: cmake/Cuda.cmake, run as a script."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CUDA_CMAKE = Path(__file__).parents[1] / "cmake" / "Cuda.cmake"
CMAKE = shutil.which("cmake")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CMAKE is None, reason="cmake is not installed")]

# What a script may not do says what it was asked for instead.
HARNESS = """
list(PREPEND CMAKE_MODULE_PATH "{modules}")
macro(enable_language language)
  message(STATUS "language ${{language}}")
endmacro()
macro(add_subdirectory folder)
  message(STATUS "built for [${{fp16engine_gpus}}]")
endmacro()
include("{script}")
"""
CHECK_LANGUAGE = """
macro(check_language language)
  set(CMAKE_CUDA_COMPILER {compiler})
endmacro()
"""


def _decide(folder: Path, mode: str, smi: str | None, compiler: bool) -> str:
    """Run Cuda.cmake where `nvidia-smi` is the shell script `smi`, or missing, and nvcc is there or not."""
    programs, modules = folder / "bin", folder / "modules"
    programs.mkdir()
    modules.mkdir()
    if smi is not None:
        (programs / "nvidia-smi").write_text(f"#!/bin/sh\n{smi}\n")
        (programs / "nvidia-smi").chmod(0o755)
    text = CHECK_LANGUAGE.format(compiler="nvcc" if compiler else "NOTFOUND")
    (modules / "CheckLanguage.cmake").write_text(text)
    harness = folder / "harness.cmake"
    harness.write_text(HARNESS.format(modules=modules, script=CUDA_CMAKE))
    only = f"-DCMAKE_SYSTEM_PROGRAM_PATH={programs};-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF".split(";")
    done = subprocess.run(
        [str(CMAKE), f"-DFP16ENGINE_CUDA={mode}", *only, "-P", str(harness)],
        env={"PATH": str(programs)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


ONE, TWO, OLD, MIXED = "echo 9.0", "printf '9.0\\n8.0\\n9.0\\n'", "echo 7.0", "printf '6.1\\n8.9\\n'"
BROKEN = "echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9"
ODD = "echo '[N/A]'"


@pytest.mark.parametrize(
    ("mode", "smi", "compiler", "expected"),
    [
        ("AUTO", None, True, "left out, no NVIDIA GPU"),
        ("AUTO", BROKEN, True, "left out, no NVIDIA GPU"),
        ("AUTO", ODD, True, "left out, no NVIDIA GPU"),
        ("AUTO", OLD, True, "left out, no NVIDIA GPU"),
        ("AUTO", ONE, False, "left out, there is a GPU but no CUDA compiler"),
        ("AUTO", ONE, True, "built for [90-real]"),
        ("AUTO", TWO, True, "built for [90-real;80-real]"),
        ("AUTO", MIXED, True, "built for [89-real]"),
        ("ON", None, True, "built for []"),
        ("OFF", ONE, True, ""),
    ],
)
def test_when_the_cuda_module_is_built(
    tmp_path: Path, mode: str, smi: str | None, compiler: bool, expected: str
) -> None:
    said = _decide(tmp_path, mode, smi, compiler)
    assert expected in said if expected else said == ""
    assert ("built for" in said) == expected.startswith("built for") == ("language CUDA" in said)
