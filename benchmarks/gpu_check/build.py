"""The part `build`: what is missing comes from --wheels, then the CUDA module, for this machine's GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from gpu_check.machine import header_folders, tool
from gpu_check.part import BUILD, ROOT, Run, command, own_python, version

# module: wheel
MODULES = {
    "numpy": "numpy", "pybind11": "pybind11", "cmake": "cmake", "ninja": "ninja", "pytest": "pytest",
    "hypothesis": "hypothesis", "safetensors": "safetensors", "cupy": "cupy-cuda13x", "xdist": "pytest-xdist",
}  # fmt: skip
# What those and the engine ask for, and the libraries of NVIDIA, where the folder has them.
ALSO = (
    "iniconfig", "pluggy", "execnet", "sortedcontainers", "attrs", "rich", "pygments", "markdown_it_py",
    "mdurl", "cuda_pathfinder", "packaging", "nvidia_cublas", "nvidia_cudnn_cu13", "nvidia_cuda_nvrtc",
    "fp16engine_cuda13",
)  # fmt: skip
# nvcc is not of one piece; the last has the header that cuda_fp16.h includes.
COMPILER = (
    "nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-runtime", "nvidia-cuda-cccl",
)  # fmt: skip
SANITIZER = "nvidia-cuda-sanitizer-api"


def in_folder(wheels: Path, package: str) -> bool:
    """Tell whether a folder has a wheel of a package."""
    return any(wheels.glob(re.sub(r"[-.]+", "_", package) + "-*.whl"))


def missing() -> list[str]:
    """Return the packages whose modules, headers or programs this machine lacks."""
    lacking = [package for module, package in MODULES.items() if importlib.util.find_spec(module) is None]
    if not any((folder / "cudnn_frontend.h").is_file() for folder in header_folders()):
        lacking.append("nvidia-cudnn-frontend")
    if tool("nvcc") is None:
        lacking += COMPILER
    if tool("compute-sanitizer") is None:
        lacking.append(SANITIZER)
    return lacking


def prepare_packages(run: Run) -> list[str]:
    """Install what is missing, from --wheels, into an environment that sees the system's; return what."""
    lacking = missing()
    if run.wheels is None or not lacking:
        return []
    absent = [name for name in ALSO if version(name) is None]
    there = [package for package in [*lacking, *absent] if in_folder(run.wheels, package)]
    if not there:
        return []
    venv = BUILD / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(venv)], check=True)
    # pip from the system's packages: a venv without a network may have none of its own.
    offline = ["-m", "pip", "install", "--no-index", "--find-links", str(run.wheels), "--no-deps"]
    subprocess.run([str(venv / "bin" / "python"), *offline, *there], check=True)
    return there


def module_state(python: str, fake: bool = False) -> dict[str, Any]:
    """Return what the CUDA module says of itself and its device, or why it does not."""
    code = (
        "import json\n"
        "from fp16engine import backend\n"
        "b = backend.get('cuda')\n"
        "n = b.native\n"
        "print(json.dumps({'architectures': n.architectures, 'capability': n.compute_capability(),"
        " 'cublaslt': n.cublaslt_version(), 'cudnn': n.cudnn_version(),"
        " 'device_properties': json.loads(n.cudnn_device_properties())}))\n"
    )
    argv = [python, *(("-m", "gpu_check.fake") if fake else ()), "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"reason": lines[-1] if lines else f"status {done.returncode}"}
    state: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return state


def own_architecture() -> str:
    """Return this machine's GPU as CMake names it, "90-real"; "" for all where it does not say."""
    query = command("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader") or ""
    found = re.match(r"(\d+)\.(\d)", query)
    return f"{found[1]}{found[2]}-real" if found else ""


def compile_module(python: str) -> str | None:
    """Build _cuda and _cpu into the checkout; return why that was not possible, or None."""
    programs = {name: tool(name) for name in ("cmake", "ninja", "nvcc")}
    pybind11 = command(python, "-m", "pybind11", "--cmakedir")
    for name, found in (("cmake", programs["cmake"]), ("nvcc", programs["nvcc"]), ("pybind11", pybind11)):
        if found is None:
            return f"no {name} on this machine; put its wheel into --wheels (docs/gpu.md has the list)"
    configure = [
        str(programs["cmake"]), "-S", str(ROOT), "-B", str(BUILD / "cmake"), "-DFP16ENGINE_CUDA=ON",
        f"-DFP16ENGINE_CUDA_ARCHS={own_architecture()}", "-DFP16ENGINE_ISAS=native",
        f"-DCMAKE_PREFIX_PATH={pybind11}", f"-DPython_EXECUTABLE={python}",
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={ROOT / 'fp16engine'}",
    ]  # fmt: skip
    if programs["ninja"]:
        configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={programs['ninja']}"]
    jobs = str(len(os.sched_getaffinity(0)))
    for step in (configure, [configure[0], "--build", str(BUILD / "cmake"), "--parallel", jobs]):
        print(*step, flush=True)
        if subprocess.run(step, check=False).returncode:
            return f"{' '.join(step[:3])} failed; build.log says why"
    return None


def compile_planted() -> str | None:
    """Build the program with a planted fault per tool; return why that was not possible, or None."""
    nvcc = tool("nvcc")
    if nvcc is None:
        return "no nvcc on this machine"
    architecture = own_architecture().partition("-")[0]
    prefix = Path(nvcc).resolve().parents[1]
    argv = [
        nvcc,
        "-std=c++17",
        "-O1",
        "-lineinfo",
        "--fmad=false",
        f"-I{ROOT / 'csrc'}",
        f"-L{prefix / 'lib'}",
    ]
    argv += [f"-arch=sm_{architecture}"] if architecture else []
    # The wheels' nvcc does not look into cccl, where cuda_fp16.h finds <nv/target>.
    argv += [f"-I{folder}" for folder in header_folders() if (folder / "nv" / "target").is_file()]
    source = ROOT / "csrc" / "testing" / "planted_main.cu"
    BUILD.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([*argv, str(source), "-o", str(BUILD / "planted")], check=False)
    return f"nvcc ended with status {done.returncode}" if done.returncode else None


def planted(run: Run) -> str | None:
    """Return that program, None if it was not built; on the made-up GPU one that does nothing."""
    if run.fake:
        return shutil.which("true")
    return str(BUILD / "planted") if (BUILD / "planted").exists() else None


def build(run: Run) -> None:
    """Build fp16engine._cuda (and _cpu) into the checkout for this machine's GPU, unless it is there."""
    installed = [] if run.fake else prepare_packages(run)
    python = own_python()
    result: dict[str, Any] = {"installed": installed, "python": python, "built": False}
    run.save(result)
    state = module_state(python, run.fake)
    if "reason" in state and not run.fake:
        start = time.monotonic()
        problem = compile_module(python)
        if problem is not None:
            run.save({**result, "failed": problem})
            return
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        result |= {"built": True, "build_seconds": round(time.monotonic() - start, 1), "suffix": suffix}
        state = module_state(python)
    result["module"] = state
    if "reason" in state:
        result["failed"] = f"the CUDA module does not run here: {state['reason']}"
    else:
        properties = json.dumps(state["device_properties"], indent=1)
        (run.out / "device_properties.json").write_text(properties + "\n")
    run.save(result)
    if not run.fake:
        result["planted_problem"] = compile_planted()
    run.save(result)
