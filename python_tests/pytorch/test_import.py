"""`import fp16engine.torch` without PyTorch says how to get it; nothing else of the package needs it."""

from __future__ import annotations

import subprocess
import sys

CHILD = """
import sys
sys.modules["torch"] = None  # as if it were not installed
import fp16engine as fe
fe.numerics, fe.train, fe.optim
try:
    import fp16engine.torch
except ModuleNotFoundError as error:
    print(error.name, error)
"""


def test_the_error_says_what_to_install() -> None:
    run = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout == (
        "torch fp16engine.torch needs PyTorch, which is not installed: pip install 'fp16engine[torch]'\n"
    )
