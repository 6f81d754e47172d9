"""A tiny `reproduce` on a disk that fails: fault_run.py FOLDER ERRNO FIRST STRIDE under failing_disk.c.

For every STRIDE-th write from FIRST on it forks a process in which that write fails, and one that does the
same command again on a disk that works; a line of JSON says how both ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure  # imported once, not by every child

from fp16engine.cli import main
from fp16engine.experiments import reproduce
from fp16engine.experiments.runs.store import Store

COMMAND = [
    "reproduce",
    "figure3",
    "--data",
    "mnist=digits",
    "--epochs",
    "1",
    "--limit",
    "8",
    "--batch-size",
    "8",
    "--activation",
    "relu",
    "--device",
    "cpu",
]


def run(out: Path, fail_at: int, number: int) -> dict[str, Any]:
    """Do the command in a child whose `fail_at`-th write below `out` fails; how it ended."""
    disk = ctypes.CDLL(None)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        said, shown = io.StringIO(), io.StringIO()
        disk.fault_arm(os.fsencode(out), ctypes.c_long(fail_at), number, int(number == errno.ENOSPC))
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
            status = main([*COMMAND, "--out", str(out), "--json"])
        count = disk.fault_seen()
        disk.fault_arm(b"", ctypes.c_long(0), 0, 0)
        result = {"status": status, "said": said.getvalue(), "writes": count, "runs": None}
        with contextlib.suppress(Exception), Store(out / reproduce.STORE) as store:
            result["runs"] = store.export()["runs"]
            result["states"] = list(store.status(store.run_keys()).values())
        os.write(write, json.dumps(result).encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:
        text = answer.read()
    _, ended = os.waitpid(child, 0)
    return json.loads(text) if text else {"status": ended, "said": "it crashed", "writes": 0, "runs": None}


def sweep() -> None:
    """Let every STRIDE-th write fail once."""
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    whole = run(folder / "whole", 0, number)
    print(json.dumps({"whole": whole}), flush=True)
    for fail_at in range(int(sys.argv[3]), whole["writes"] + 1, int(sys.argv[4])):
        out = folder / str(fail_at)
        first = run(out, fail_at, number)
        again = run(out, 0, number)
        print(json.dumps({"at": fail_at, "first": first, "again": again}), flush=True)
        shutil.rmtree(out, ignore_errors=True)


def undrawn(self: Figure, target: Any, format: str, **options: Any) -> None:
    """In the place of `Figure.savefig`: pictures are written like others, but drawing them takes longest."""
    target.write(b"PNG" if format == "png" else "<svg></svg>")


if __name__ == "__main__":
    Figure.savefig = undrawn  # type: ignore[method-assign, assignment]
    importlib.import_module("fp16engine.models.dnn").HIDDEN = 32  # type: ignore[attr-defined]
    sweep()
