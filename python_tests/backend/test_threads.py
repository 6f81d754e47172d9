"""The thread pool of the compiled backend: concurrent callers, forked children, errors in tasks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

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
    expected = _convolve()
    found: list[bool] = []

    def call() -> None:
        found.extend(np.array_equal(_convolve(), expected) for _ in range(20))

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
warnings.simplefilter("ignore")  # newer Pythons warn about any fork of a process with threads
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
    _succeeds(script)


# Forks `count` children, each of which runs `child` and has 20 seconds for it; the parent has run no kernel.
FORKS = """
import os, select, sys, threading, warnings
warnings.simplefilter("ignore")  # newer Pythons warn about any fork of a process with threads
import numpy as np
from fp16engine import backend
cpu = backend.get("cpu")
cpu.set_num_threads(4)
x = np.ones((1 << 17,), np.float16)
images, weights = np.ones((8, 8, 8, 16), np.float16), np.ones((16, 3, 3, 16), np.float16)

def convolve():
    return cpu.conv2d_forward(images, weights, None, (1, 1), (1, 1, 1, 1), 1, "float32")

def in_children(count, child):
    failed = 0
    for _ in range(count):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os._exit(child())
        os.close(writer)  # the child's end closes when the child ends
        if not select.select([reader], [], [], 20)[0]:
            os.kill(pid, 9)
        os.close(reader)
        failed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
    return failed
"""

# The rows' numbers are checked before the first task: after a time of its own each thread needs the pool.
FIRST_KERNELS = """
import random
table = np.ones((4, 64), np.float16)

def child():
    right, start = [], threading.Barrier(4)
    def first(ids, rows):
        start.wait()
        cpu.native.take_rows(table, ids, rows)
        right.append(bool((rows == 1).all()))
    ids = [np.zeros(random.randrange(2000, 20000), np.int64) for _ in range(4)]
    rows = [np.zeros((i.size, 64), np.float16) for i in ids]
    callers = [threading.Thread(target=first, args=arguments) for arguments in zip(ids, rows)]
    for caller in callers: caller.start()
    for caller in callers: caller.join()
    return 0 if right == [True] * 4 else 1
"""

DURING_KERNELS = """
stop = False
def work():
    while not stop:
        convolve()
        cpu.binary("add", x, x)
callers = [threading.Thread(target=work) for _ in range(3)]
for caller in callers: caller.start()

def child():
    return 0 if (cpu.binary("add", x, x) == 2).all() and convolve()[0, 4, 4, 0] == 144 else 1
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("child", [FIRST_KERNELS, DURING_KERNELS], ids=["first kernels", "during kernels"])
def test_every_fork_ends_well(child: str) -> None:
    if child is DURING_KERNELS and "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer of GCC 12 does not free its allocator's locks in the child of a fork")
    count = int(os.environ.get("FP16ENGINE_TEST_FORKS", "60"))
    _succeeds(f"{FORKS}{child}failed = in_children({count}, child)\nstop = True\nraise SystemExit(failed)")


def test_refused_threads_are_done_without() -> None:
    resource = pytest.importorskip("resource")
    assert resource.RLIMIT_AS
    script = """
import resource, warnings
import numpy as np
from fp16engine import backend
cpu = backend.get("cpu")
x = np.ones((1 << 22,), np.float16)
y = cpu.empty(x.shape, "float16")
cpu.set_num_threads(64)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (80 << 20),) * 2)  # room for a few stacks
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for _ in range(3):
        cpu.native.binary("add", x, x, y)
assert (y == 2).all()
assert 1 <= cpu.info()["threads"] < 64, cpu.info()
(message,) = [str(w.message) for w in told]
assert message.startswith("the system refused a thread: ") and message.endswith("64 were asked for"), message
"""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("this system has no /proc")
    _succeeds(script)


def test_too_many_threads_are_capped(threads: Any) -> None:
    most = max(256, os.cpu_count() or 1)
    with pytest.warns(RuntimeWarning, match=f"threads must be at most {most}, got 10000; {most} are used"):
        threads.set_num_threads(10_000)
    assert threads.info()["threads"] == most


@pytest.mark.parametrize("count", [0, -1])
def test_no_threads_are_refused(threads: Any, count: int) -> None:
    with pytest.raises(ValueError, match=f"count must be an integer >= 1, got {count}"):
        threads.set_num_threads(count)


def _succeeds(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
