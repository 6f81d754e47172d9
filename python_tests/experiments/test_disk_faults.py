"""`reproduce` on a disk that fails: every write may be refused, nothing is lost.

The suite tries every STRIDE-th write, with one error and the other in turn; FP16ENGINE_FAULT_STRIDE=1 in the
environment tries all of them with both.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
STRIDE = int(os.environ.get("FP16ENGINE_FAULT_STRIDE", "37"))


@pytest.fixture(scope="module")
def failing_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload; skips where it cannot be built."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler for the library that makes writes fail")
    library = tmp_path_factory.mktemp("disk") / "failing_disk.so"
    source = HERE / "failing_disk.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", source, "-o", library, "-ldl"], check=True)
    return library


def judge(fault: dict[str, Any], whole: dict[str, Any]) -> None:
    """Assert that the fault was told in one sentence, and that the same command ended as without it."""
    first, again = fault["first"], fault["again"]
    if first["status"] == 0:  # the write was of no consequence
        assert (first["said"], first["runs"]) == ("", whole["runs"]), fault
    else:
        assert first["status"] == 1, fault
        assert first["said"].startswith("fp16engine: could not write "), fault
        assert first["said"].count("\n") == 1, fault
        assert set(first.get("states", [])) <= {"pending", "done"}, fault
    assert (again["status"], again["said"], again["runs"]) == (0, "", whole["runs"]), fault
    assert set(again["states"]) == {"done"}, fault


@pytest.mark.parametrize(("name", "first"), [("ENOSPC", 1), ("EIO", 1 + STRIDE)])
def test_a_refused_write_is_one_sentence_and_the_same_command_finishes(
    failing_disk: Path, tmp_path: Path, name: str, first: int
) -> None:
    number = getattr(errno, name)
    first, stride = (1, 1) if STRIDE == 1 else (first, 2 * STRIDE)
    child = subprocess.Popen(
        [sys.executable, HERE / "fault_run.py", tmp_path, str(number), str(first), str(stride)],
        env={**os.environ, "LD_PRELOAD": str(failing_disk), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    with child:
        whole = json.loads(child.stdout.readline())["whole"]
        assert whole["status"] == 0 and whole["writes"] > 100, whole
        faults = [json.loads(line) for line in child.stdout]
    assert child.returncode == 0
    assert len(faults) == len(range(first, whole["writes"] + 1, stride))
    for fault in faults:
        judge(fault, whole)
    assert any(fault["first"]["status"] == 1 for fault in faults)
