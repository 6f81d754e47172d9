"""What needs a device that is not here is left out at collection and counted in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from fp16engine.backend.gpu import cuda


@pytest.mark.slow
@pytest.mark.skipif(cuda.gpus() > 0, reason="this machine has a GPU")
@pytest.mark.parametrize(
    "how", [["--collect-only"], ["-n", "1", "-k", "wrong_arguments"]], ids=["one", "workers"]
)
def test_cases_of_a_gpu_are_counted_in_one_line(how: list[str]) -> None:
    file = Path(__file__).parent / "bench" / "test_kernels.py"
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(file), *how]
    out = subprocess.run(argv, cwd=file.parents[2], capture_output=True, text=True, check=True).stdout
    assert out.count("no GPU, or no CUDA module") == 1
    assert "cases on 'cuda' not run" in out and "[cuda" not in out
