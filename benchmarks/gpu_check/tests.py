"""The parts that run tests: the suite on the device, and compute-sanitizer on the kernels' tests."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from gpu_check.build import planted
from gpu_check.machine import tool
from gpu_check.part import ROOT, Run, command

# Tool: the planted fault that it must find (csrc/testing/planted.cuh).
FAULTS = {"memcheck": "bounds", "racecheck": "race", "synccheck": "divergent_barrier", "initcheck": "unset"}
FOUND = 9  # status of compute-sanitizer for a finding


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
    argv = [*wrapper, *Run.python(run, "-c", PYTEST), *options, *spread, *arguments]
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
    name = "cuda" if run.gpu else run.device
    if run.fake:  # no test's device "cuda" is there: what they do on it
        run.save(pytest(run, ["python_tests/cuda/test_backend.py"]))
    elif run.dry:
        run.save(pytest(run, ["python_tests/backend/gpu/test_accumulators.py", "-k", name]))
    else:
        run.save(pytest(run, ["python_tests", "-k", name]))


# Our own kernels: the exact and the bit-equal cases, without those of the libraries.
KERNELS = "not matmul and not linear and not (conv2d and acc-float32) and cuda"
SHARED = "norm or softmax or entropy or sum or pool or attention"  # that use shared memory


def control(path: str, checked: str, program: str) -> dict[str, Any]:
    """Run a tool on its planted fault, which it must find, and on a kernel without any."""
    found: dict[str, Any] = {}
    for fault, expected in ((FAULTS[checked], FOUND), ("nothing", 0)):
        done = subprocess.run(
            [path, "--tool", checked, "--error-exitcode", str(FOUND), program, fault],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        print(done.stdout, done.stderr, flush=True)
        found[fault] = done.returncode == expected
    return found


def sanitizer(run: Run, checked: str) -> None:
    """One tool on its planted fault, then on the exact cases, which run every kernel once at small sizes."""
    path, program = tool("compute-sanitizer"), planted(run)
    absent = "no compute-sanitizer on this machine" if path is None else "no planted fault was built"
    if path is None or program is None:
        run.save({"skipped": absent, "failed": absent})
        return
    result: dict[str, Any] = {"tool": command(path, "--version"), "control": control(path, checked, program)}
    run.save(result)
    if not all(result["control"].values()):
        wrong = ", ".join(fault for fault, right in result["control"].items() if not right)
        run.save({**result, "failed": f"{checked} is wrong about the planted fault: {wrong}"})
        return
    selection = f"exact and float16 and {KERNELS}"
    if checked in ("racecheck", "synccheck"):
        selection += f" and ({SHARED})"
    wrapper = [path, "--tool", checked, "--target-processes", "all", "--error-exitcode", str(FOUND)]
    cases = ["python_tests/backend/test_op_cases.py", "-k", selection]
    if run.fake:
        cases = ["python_tests/cuda/test_library.py"]
    run.save({**result, **pytest(run, cases, wrapper, parallel=False)})
