"""The thread pool of the compiled backend: concurrent callers, forked children, errors in tasks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from fp16engine import backend as backends
from fp16engine.errors import BackendUnavailable

try:
    CPU = backends.get("cpu")
except BackendUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)

X = np.random.default_rng(0).standard_normal((64, 16, 16, 16)).astype(np.float16)
W = np.random.default_rng(1).standard_normal((16, 3, 3, 16)).astype(np.float16)


def _convolve() -> np.ndarray:
    return CPU.conv2d_forward(X, W, None, (1, 1), (1, 1, 1, 1), 1, "float32")


def test_python_threads_may_call_at_once() -> None:
    wanted = _convolve()
    found: list[bool] = []

    def call() -> None:
        found.extend(np.array_equal(_convolve(), wanted) for _ in range(20))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [True] * 80


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes() -> None:
    script = """
import os, warnings
warnings.simplefilter("ignore")  # newer Pythons warn about any fork beside threads
import numpy as np
from fp16engine import backend
cpu = backend.get("cpu")
x = np.ones((1 << 20,), np.float16)
cpu.binary("add", x, x)
child = os.fork()
if child == 0:
    os._exit(0 if float(cpu.sum(cpu.binary("add", x, x), (0,), "float32")[0]) == np.inf else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
