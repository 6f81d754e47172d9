"""FP16ENGINE_CUDA=AUTO|ON|OFF decides as it says, on made-up machines: cmake/Cuda.cmake, run as a script.

And what pip is asked to bring for it: cmake/cuda_requirements.py.
"""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CMAKE_FOLDER = Path(__file__).parents[1] / "cmake"
CMAKE = shutil.which("cmake")

# What a script may not do says what it was asked for instead; CUDA's usual place is in the made-up machine.
HARNESS = """
list(PREPEND CMAKE_MODULE_PATH "{modules}")
macro(enable_language language)
  message(STATUS "language ${{language}}")
endmacro()
macro(add_subdirectory folder)
  message(STATUS "built for [${{fp16engine_gpus}}] by $ENV{{CUDACXX}}")
endmacro()
macro(find_program)
  string(REPLACE "/usr/local/cuda" "{machine}/usual" arguments "${{ARGN}}")
  _find_program(${{arguments}})
endmacro()
include("{script}")
"""
CHECK_LANGUAGE = """
macro(check_language language)
  if("$ENV{CUDACXX}" STREQUAL "")
    set(CMAKE_CUDA_COMPILER NOTFOUND)
  else()
    set(CMAKE_CUDA_COMPILER $ENV{CUDACXX})
  endif()
endmacro()
"""
HEADERS = {
    "nvidia/cu13/include/cublasLt.h": "nvidia-cublas",
    "nvidia/cudnn/include/cudnn.h": "nvidia-cudnn-cu13",
    "include/cudnn_frontend.h": "nvidia-cudnn-frontend",
    "nvidia/cu13/include/nvrtc.h": "nvidia-cuda-nvrtc",
}


class Machine:
    """A folder with programs, wheels and toolkits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": str(folder / "bin"), "PYTHONPATH": str(folder / "site")}
        (folder / "bin").mkdir()

    def program(self, name: str, script: str = "exit 1") -> str:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return str(file)

    def headers(self, but: str = "") -> None:
        for name, package in HEADERS.items():
            file = self.folder / "site" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if package != but:
                file.write_text("")

    def decide(self, mode: str) -> subprocess.CompletedProcess[str]:
        """Run Cuda.cmake here."""
        modules = self.folder / "modules"
        modules.mkdir()
        (modules / "CheckLanguage.cmake").write_text(CHECK_LANGUAGE)
        harness = self.folder / "harness.cmake"
        script = CMAKE_FOLDER / "Cuda.cmake"
        harness.write_text(HARNESS.format(modules=modules, script=script, machine=self.folder))
        only = [
            f"-DCMAKE_SYSTEM_PROGRAM_PATH={self.folder / 'bin'}",
            "-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF",
        ]
        # Without this interpreter's own packages, which may be NVIDIA's.
        python = self.program("python", f'exec {sys.executable} -S "$@"')
        options = [f"-DFP16ENGINE_CUDA={mode}", f"-DPython_EXECUTABLE={python}", *only]
        return subprocess.run(
            [str(CMAKE), *options, "-P", str(harness)],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


ONE, TWO, OLD, MIXED = "echo 9.0", "printf '9.0\\n8.0\\n9.0\\n'", "echo 7.0", "printf '6.1\\n8.9\\n'"
BROKEN = "echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9"
ODD = "echo '[N/A]'"

slow = pytest.mark.slow
cmake = pytest.mark.skipif(CMAKE is None, reason="cmake is not installed")


@slow
@cmake
@pytest.mark.parametrize(
    ("mode", "smi", "compiler", "expected"),
    [
        ("AUTO", None, True, "left out, no NVIDIA GPU"),
        ("AUTO", BROKEN, True, "left out, no NVIDIA GPU"),
        ("AUTO", ODD, True, "left out, no NVIDIA GPU"),
        ("AUTO", OLD, True, "left out, no NVIDIA GPU"),
        ("AUTO", ONE, False, "left out, no CUDA compiler"),
        ("AUTO", ONE, True, "built for [90-real]"),
        ("AUTO", TWO, True, "built for [90-real;80-real]"),
        ("AUTO", MIXED, True, "built for [89-real]"),
        ("ON", None, True, "built for []"),
        ("OFF", ONE, True, ""),
    ],
)
def test_when_the_cuda_module_is_built(
    machine: Machine, mode: str, smi: str | None, compiler: bool, expected: str
) -> None:
    machine.headers()
    if smi is not None:
        machine.program("bin/nvidia-smi", smi)
    if compiler:
        machine.program("bin/nvcc")
    done = machine.decide(mode)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert expected in said if expected else said == ""
    assert ("built for" in said) == expected.startswith("built for") == ("language CUDA" in said)


@slow
@cmake
@pytest.mark.parametrize("mode", ["AUTO", "ON"])
@pytest.mark.parametrize("lacking", [*HEADERS.values(), "nvcc"])
def test_no_module_without_products_or_convolutions(machine: Machine, mode: str, lacking: str) -> None:
    """It is left out, and an error where it was asked for; the message says what to install."""
    machine.program("bin/nvidia-smi", ONE)
    machine.headers(but=lacking)
    if lacking != "nvcc":
        machine.program("bin/nvcc")
    done = machine.decide(mode)
    assert (done.returncode == 0) == (mode == "AUTO")
    assert "built for" not in done.stdout
    message = " ".join((done.stdout + done.stderr).split())
    named = [package for package in HEADERS.values() if package in message]
    assert named == ([lacking] if lacking != "nvcc" else []) and "left out" in message
    assert "pip install nvidia-cuda-nvcc" in message or lacking != "nvcc"


@slow
@cmake
@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH", "CUDACXX", "wheel", "usual"])
def test_where_nvcc_is_looked_for(machine: Machine, variable: str) -> None:
    machine.headers()
    folders = {"wheel": "site/nvidia/cu13", "usual": "usual"}
    nvcc = machine.program(f"{folders.get(variable, 'toolkit')}/bin/nvcc")
    if variable.startswith("CUDA"):
        other = machine.program("bin/nvcc")  # on PATH: what the user has named comes first
        assert other != nvcc
        machine.environment[variable] = nvcc if variable == "CUDACXX" else str(Path(nvcc).parents[1])
    done = machine.decide("ON")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(f"built for [] by {nvcc}")


@pytest.mark.parametrize(
    ("setting", "variable", "smi", "nvcc", "brings"),
    [
        (None, "", ONE, True, "headers"),
        (None, "", ONE, False, "headers and nvcc"),
        (None, "", MIXED, True, "headers"),
        (None, "", OLD, True, ""),
        (None, "", BROKEN, True, ""),
        (None, "", ODD, True, ""),
        (None, "", None, True, ""),
        ("ON", "", None, True, "headers"),
        ("OFF", "", ONE, True, ""),
        (None, "FP16ENGINE_SIMT=ON;FP16ENGINE_CUDA=OFF", ONE, True, ""),
        (None, "FP16ENGINE_CUDA=ON", None, True, "headers"),
        ("OFF", "FP16ENGINE_CUDA=ON", None, True, ""),
    ],
)
def test_what_pip_brings_for_it(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    setting: str | None,
    variable: str,
    smi: str | None,
    nvcc: bool,
    brings: str,
) -> None:
    """An isolated build sees no wheels but those it asks for."""
    hook: dict[str, Any] = runpy.run_path(str(CMAKE_FOLDER / "cuda_requirements.py"))
    if smi is not None:
        machine.program("bin/nvidia-smi", smi)
    monkeypatch.setenv("PATH", f"{machine.folder / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("SKBUILD_CMAKE_DEFINE", variable)
    monkeypatch.delenv("CUDACXX", raising=False)
    if nvcc:
        monkeypatch.setenv("CUDACXX", machine.program("bin/nvcc"))
    else:
        monkeypatch.setitem(hook["requirements"].__globals__, "nvcc", lambda: False)
    settings = None if setting is None else {"cmake.define.FP16ENGINE_CUDA": setting}
    found = hook["requirements"](settings)
    expected = [*(hook["HEADERS"] if brings else ()), *(hook["COMPILER"] if "nvcc" in brings else ())]
    assert found == expected
    named = {requirement.split(">")[0].split("=")[0] for requirement in found}
    assert not brings or set(HEADERS.values()) <= named
