"""The parts of gpu_check.py, each run by it as `python gpu_parts.py PART ...` in a process of its own.

A part writes a JSON object to --result, as often as it has found something more: what is there counts when
its time is over. The key "failed" holds a sentence if what it looked at is not as it should be.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "gpu_check"
PACKAGES = (
    "torch", "triton", "cupy-cuda13x", "numpy", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cuda-nvrtc",
    "nvidia-cuda-runtime", "nvidia-cudnn-frontend", "pybind11", "cmake", "ninja", "pytest", "pytest-xdist",
    "hypothesis",
)  # fmt: skip
TOOLS = ("nvcc", "compute-sanitizer", "ncu", "nsys", "cmake", "ninja", "c++")
HEADERS = ("cublasLt.h", "cudnn.h", "nvrtc.h", "cudnn_frontend.h")
MODELS = ("resnet56", "resnet20", "alexnet", "vgg16")


class Run:
    """What a part is told, and where it writes what it has found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device: str = options.device
        self.dry: bool = options.dry
        self.out: Path = options.out
        self.wheels: Path | None = options.wheels
        self.end = time.monotonic() + options.seconds
        self._file: Path = options.result

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.end - time.monotonic()

    def save(self, result: dict[str, Any]) -> None:
        """Write what has been found so far."""
        part = self._file.with_suffix(".writing")
        part.write_text(json.dumps(result))
        part.replace(self._file)


def command(*argv: str, timeout: float = 60, **options: Any) -> str | None:
    """Return what a command prints, None if it is not there, fails or takes too long."""
    if shutil.which(argv[0]) is None:
        return None
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout, **options)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# --- the machine -------------------------------------------------------------------------------------------


def header_folders() -> list[Path]:
    """Return where headers may be: those of NVIDIA's wheels, then the toolkit."""
    sys.path.insert(0, str(ROOT / "cmake"))
    import nvidia_folders

    roots = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    return [*nvidia_folders.headers(), *(Path(root, "include") for root in roots if root)]


def environment(run: Run) -> None:
    """Device, driver, versions, headers and tools; writes nothing but what it found."""
    query = "name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit,compute_cap"
    folders = header_folders()
    run.save(
        {
            "gpus": (
                command("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader") or ""
            ).splitlines(),
            "query": query,
            "nvcc": re.search(r"release [\d.]+, V[\d.]+|$", command("nvcc", "--version") or "")[0] or None,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cores": len(os.sched_getaffinity(0)),
            "packages": {name: version(name) for name in PACKAGES},
            "tools": {name: shutil.which(name) for name in TOOLS},
            "headers": {
                name: next((str(folder) for folder in folders if (folder / name).is_file()), None)
                for name in HEADERS
            },
        }
    )


# --- the module --------------------------------------------------------------------------------------------


def prepare_packages(run: Run) -> list[str]:
    """Install what is missing, from --wheels, into an environment that sees the system's; return what."""
    same = ("numpy", "pybind11", "cmake", "ninja", "pytest", "hypothesis", "safetensors")
    needed = {name: name for name in same} | {"cupy": "cupy-cuda13x", "xdist": "pytest-xdist"}
    missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    if not any((folder / "cudnn_frontend.h").is_file() for folder in header_folders()):
        missing.append("nvidia-cudnn-frontend")
    if run.wheels is None or not missing:
        return []
    venv = BUILD / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(venv)], check=True)
    # pip from the system's packages: a venv without a network may have none of its own.
    offline = ["-m", "pip", "install", "--no-index", "--find-links", str(run.wheels), "--no-deps"]
    there = [package for package in missing if list(run.wheels.glob(package.replace("-", "_") + "-*"))]
    also = [
        "iniconfig",
        "pluggy",
        "execnet",
        "sortedcontainers",
        "attrs",
        "rich",
        "cuda_pathfinder",
        "packaging",
    ]
    there += [name for name in also if list(run.wheels.glob(name + "-*"))]
    subprocess.run([str(venv / "bin" / "python"), *offline, *there], check=True)
    return there


def own_python() -> str:
    own = BUILD / "venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def module_state(python: str) -> dict[str, Any]:
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
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"reason": lines[-1] if lines else f"status {done.returncode}"}
    state: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return state


def own_architecture() -> str:
    """Return this machine's GPU as CMake names it, "90-real"; "" for all where it does not say."""
    found = re.match(
        r"(\d+)\.(\d)", command("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader") or ""
    )
    return f"{found[1]}{found[2]}-real" if found else ""


def build(run: Run) -> None:
    """Build fp16engine._cuda (and _cpu) into the checkout for this machine's GPU, unless it is there."""
    installed = prepare_packages(run)
    python = own_python()
    result: dict[str, Any] = {"installed": installed, "python": python, "built": False}
    state = module_state(python)
    if "reason" in state:
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        script = Path(python).parent
        tools = {
            name: shutil.which(name, path=f"{script}:{os.environ['PATH']}") for name in ("cmake", "ninja")
        }
        if tools["cmake"] is None:
            run.save({**result, "failed": "no cmake on this machine; put its wheel into --wheels"})
            return
        pybind11 = command(python, "-m", "pybind11", "--cmakedir")
        if pybind11 is None:
            run.save({**result, "failed": "no pybind11 on this machine; put its wheel into --wheels"})
            return
        configure = [
            tools["cmake"], "-S", str(ROOT), "-B", str(BUILD / "cmake"), "-DFP16ENGINE_CUDA=ON",
            f"-DFP16ENGINE_CUDA_ARCHS={own_architecture()}",
            f"-DCMAKE_PREFIX_PATH={pybind11}", f"-DPython_EXECUTABLE={python}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={ROOT / 'fp16engine'}",
        ] + (["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools['ninja']}"] if tools["ninja"] else [])  # fmt: skip
        jobs = str(len(os.sched_getaffinity(0)))
        start = time.monotonic()
        for step in (configure, [tools["cmake"], "--build", str(BUILD / "cmake"), "--parallel", jobs]):
            print(*step, flush=True)
            if subprocess.run(step, check=False).returncode:
                run.save({**result, "failed": f"{' '.join(step[:3])} failed; build.log says why"})
                return
        result |= {"built": True, "build_seconds": round(time.monotonic() - start, 1), "suffix": suffix}
        state = module_state(python)
    result["module"] = state
    if "reason" in state:
        result["failed"] = f"the CUDA module does not run here: {state['reason']}"
    run.save(result)


# --- tests -------------------------------------------------------------------------------------------------


def counts(text: str) -> dict[str, int]:
    """Return the numbers of pytest's closing line, {"passed": 12, ...}."""
    lines = [line for line in text.splitlines() if re.search(r"\b(passed|failed|error|no tests ran)", line)]
    return {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", lines[-1] if lines else "")}


# `python -m pytest` would import the package of the folder it starts in, built or not.
PYTEST = "import sys; sys.path.remove(''); import pytest; sys.exit(pytest.main())"


def pytest(
    run: Run, arguments: Sequence[str], wrapper: Sequence[str] = (), parallel: bool = True
) -> dict[str, Any]:
    """Run pytest and return its counts, the tests that failed, and its status."""
    workers = len(os.sched_getaffinity(0))
    spread = ["-n", str(workers)] if parallel and workers > 2 and importlib.util.find_spec("xdist") else []
    options = ["-q", "-p", "no:cacheprovider", "-rfE"]
    argv = [*wrapper, sys.executable, "-c", PYTEST, *options, *spread, *arguments]
    print(*argv, flush=True)
    start = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        lines = []
        for line in child.stdout:
            lines.append(line)
            print(line, end="", flush=True)
    text = "".join(lines)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    result: dict[str, Any] = {
        "command": " ".join(argv),
        "counts": counts(text),
        "failed_tests": failed[:100],
        "seconds": round(time.monotonic() - start, 1),
        "output_end": text[-3000:] if child.returncode else "",
    }
    if child.returncode:
        result["failed"] = f"pytest ended with status {child.returncode}: {result['counts']}"
    elif not result["counts"].get("passed"):
        result["failed"] = "no test ran"
    return result


def suite(run: Run) -> None:
    """The tests of the device, by its name in their parameters."""
    name = "cuda" if run.device.startswith("cuda") else run.device
    if run.dry:
        run.save(pytest(run, ["python_tests/backend/gpu/test_accumulators.py", "-k", name]))
        return
    run.save(pytest(run, ["python_tests", "-k", name]))


def sanitizer(run: Run, tool: str, selection: str) -> None:
    """One tool of compute-sanitizer on the exact cases, which run every kernel once at small sizes."""
    path = shutil.which("compute-sanitizer") or next(
        (p for p in ("/usr/local/cuda/bin/compute-sanitizer",) if Path(p).exists()), None
    )
    if path is None:
        run.save(
            {
                "skipped": "no compute-sanitizer on this machine",
                "failed": "no compute-sanitizer on this machine",
            }
        )
        return
    wrapper = [path, "--tool", tool, "--target-processes", "all", "--error-exitcode", "9"]
    result = pytest(run, ["python_tests/backend/test_op_cases.py", "-k", selection], wrapper, parallel=False)
    result["tool"] = command(path, "--version")
    run.save(result)


# Our own kernels: the exact and the bit-equal cases, without those of the libraries.
KERNELS = "not matmul and not linear and not (conv2d and acc-float32) and cuda"


def memcheck(run: Run) -> None:
    sanitizer(run, "memcheck", f"exact and float16 and {KERNELS}")


def racecheck(run: Run) -> None:
    sanitizer(
        run,
        "racecheck",
        f"exact and float16 and {KERNELS} and (norm or softmax or entropy or sum or pool or attention)",
    )


# --- measurements ------------------------------------------------------------------------------------------


def rates(run: Run) -> None:
    """What a cudaMemcpyAsync reaches by size, and what a node of a CUDA graph costs."""
    import numpy as np

    from fp16engine import backend as backends
    from fp16engine.bench import timers

    backend: Any = backends.get(run.device)
    clock = timers.timer(backend)
    result: dict[str, Any] = {"copy": [], "flushed": clock.flushes, "node_us": None}
    for megabytes in (0.1, 0.2) if run.dry else (2, 8, 32, 128, 256, 1024):
        x = backend.from_numpy(np.resize(np.arange(512, dtype=np.float16), int(megabytes * 5e5)))
        one = median(clock.measure(timers.device_copy(backend, x), 0.01 if run.dry else 0.2))
        result["copy"].append({"megabytes": megabytes, "us": 1e6 * one, "gb_per_s": 2e-9 * x.nbytes / one})
        run.save(result)
        del x
    small = backend.full((32,), 1.0, "float16")
    node = clock.resident(lambda: backend.binary("add", small, 0.0), 20 if run.dry else 1000)
    result["node_us"] = None if node is None else 1e6 * node
    result["node"] = (
        "an addition to 32 numbers, 1000 of them one after the other in a graph" if node else "needs a GPU"
    )
    run.save(result)


def accumulators(run: Run) -> None:
    """What the kernels and the libraries really accumulate in; writes accumulators-found.json too."""
    from dataclasses import asdict

    from fp16engine import backend as backends
    from fp16engine.backend.gpu import accumulators as probe

    backend: Any = backends.get(run.device)
    native = getattr(backend, "native", None)
    result: dict[str, Any] = {"own": [asdict(one) for one in probe.probe(backend)]}
    result["own_sentences"] = probe.summary(probe.probe(backend))
    if not run.device.startswith("cuda"):
        run.save({**result, "library_sentences": ["needs a GPU"], "proven": False})
        return
    run.save(result)
    before, backend.library_halves = backend.library_halves, True
    try:
        found = probe.probe(backend)
    finally:
        backend.library_halves = before
    gpu, libraries = probe.identify(backend)
    probe.record(run.out / "accumulators-found.json", gpu, libraries, found)
    result |= {
        "libraries": libraries,
        "library": [asdict(one) for one in found],
        "library_sentences": probe.summary(found),
        "proven": probe.proven(gpu, libraries, probe.load(run.out / "accumulators-found.json")),
        "algorithms": [*native.matmul_implementations(), *native.conv2d_implementations()],
    }
    own = [
        one for one in result["own"] if one["asked"] == "float16" and one["found"] not in probe.EVERY_PRODUCT
    ]
    narrow = [one for one in found if one.asked == "float32" and one.found != probe.BINARY32]
    if own or narrow:
        result["failed"] = (
            f"{len(own)} of our binary16 sums and {len(narrow)} binary32 sums are not what was asked for"
        )
    run.save(result)


def engine(run: Run, *argv: str) -> dict[str, Any]:
    """Run `fp16engine ... --json` and return its document; notes go to the log."""
    limit = max(run.left(), 1)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fp16engine", *argv, "--device", run.device, "--json"],
            stdout=subprocess.PIPE, text=True, check=False, timeout=limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failed": f"fp16engine {' '.join(argv)} was not done after {limit:.0f} s"}
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"failed": f"fp16engine {' '.join(argv)} ended with status {done.returncode}"}
    if done.returncode:
        document["failed"] = f"fp16engine {' '.join(argv)} ended with status {done.returncode}"
    return document


def kernels(run: Run) -> None:
    """`bench kernels`, against PyTorch's where it is installed."""
    sizes, seconds = ("tiny", "0.0001") if run.dry else ("in-situ,large", "0.05")
    run.save(engine(run, "bench", "kernels", "--sizes", sizes, "--seconds", seconds, "--peer", "torch"))


PEER_SHARE = 0.25  # of a network's time, for each of the peer's steps to be compiled


def steps(run: Run) -> None:
    """`bench step` of each network, one after the other, as many as there is time for.

    What was measured before stays; a network that failed, or whose peer was not ready in time, is measured
    again.
    """
    before = run.out / "steps.json"
    known = (json.loads(before.read_text()).get("result") or {}).get("models", {}) if before.exists() else {}
    models: dict[str, Any] = {m: found for m, found in known.items() if "failed" not in found}
    # What torch.compile has compiled is kept, so that a run that was cut short continues from there.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(BUILD / "inductor"))
    names = ("dnn",) if run.dry else MODELS
    waiting = [m for m in names if m not in models]
    waiting += [m for m in names if m in models and (models[m].get("peer") or {}).get("left_out")]
    failed: dict[str, str] = {}
    for position, model in enumerate(waiting):
        size = ["--batch-size", "4", "--image-size", "8"] if run.dry else ["--batch-size", "256"]
        pace = ["--rounds", "1", "--seconds", "0.001"] if run.dry else ["--rounds", "5", "--seconds", "0.3"]
        expected = "fp16,fp32,tf32,mp" if run.device.startswith("cuda") else "fp16,fp32,mp"
        ready = max(PEER_SHARE * run.left() / (len(waiting) - position), 5)
        named = [
            "--model",
            model,
            "--precision",
            expected,
            "--peer",
            "torch",
            "--peer-seconds",
            f"{ready:.0f}",
        ]
        capture = ["--capture"] if run.device.startswith("cuda") else []
        found = engine(run, "bench", "step", *named, *size, *pace, *capture)
        if not found.get("failed"):
            models[model] = found
            failed |= {
                f"{model}, {p}": why for p, why in ((found["peer"] or {}).get("left_out") or {}).items()
            }
        else:
            failed[model] = found["failed"]
        reasons = "; ".join(f"{what}: {why}" for what, why in failed.items())
        run.save({"models": models, **({"failed": reasons} if reasons else {})})


def captured(run: Run) -> None:
    """The same 50 steps eager and captured: every loss, parameter and state must have the same bits."""
    import captured_bits

    run.save(captured_bits.compare(run.device, steps=6 if run.dry else 50))


PARTS: dict[str, Callable[[Run], None]] = {
    "environment": environment,
    "build": build,
    "suite": suite,
    "memcheck": memcheck,
    "racecheck": racecheck,
    "accumulators": accumulators,
    "rates": rates,
    "kernels": kernels,
    "steps": steps,
    "captured": captured,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="a part of gpu_check.py")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--wheels", type=Path)
    options = parser.parse_args()
    PARTS[options.part](Run(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
