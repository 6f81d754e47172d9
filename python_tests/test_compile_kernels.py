""".ci/compile_kernels on made-up machines: NVIDIA's headers are asked for, without them it fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "compile_kernels"
USED = ("bash", "tail", "sed", "tr", "xargs", "find", "grep", "mkdir")

pytestmark = [
    pytest.mark.skipif(not SCRIPT.exists(), reason="no .ci here"),
    pytest.mark.skipif(not all(map(shutil.which, USED)), reason=f"not all of {', '.join(USED)} are here"),
]


def run(folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run it where these programs are all there is, next to Python without packages."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name in USED:
        (bin_folder / name).symlink_to(str(shutil.which(name)))
    for name, script in {"python": f'exec {sys.executable} -S "$@"', **programs}.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (bin_folder / name).chmod(0o755)
    return subprocess.run(
        [str(bin_folder / "bash"), str(SCRIPT), str(folder)],
        cwd=ROOT, env={"PATH": str(bin_folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_a_compiler_nothing_is_asked_for(tmp_path: Path) -> None:
    done = run(tmp_path, pip="exit 7")
    assert done.returncode == 0 and "no nvcc on this machine: not compiled" in done.stdout


def test_headers_that_pip_cannot_bring_are_a_failure(tmp_path: Path) -> None:
    offline = 'case "$*" in *nvidia*) echo "no index: $*" >&2; exit 1;; esac'
    done = run(tmp_path, nvcc="echo 'release 13.0'", pip=offline, cmake="echo called")
    assert done.returncode != 0 and "called" not in done.stdout
    assert "nvidia-cublas>=13,<14 nvidia-cudnn-cu13" in done.stderr


def test_a_build_that_finds_no_header_is_a_failure(tmp_path: Path) -> None:
    done = run(
        tmp_path, nvcc="echo 'release 13.0'", pip="exit 0", cmake="echo 'headers were not found'; exit 1"
    )
    assert done.returncode != 0 and "headers were not found" in done.stdout
