"""What a part of the check is told, where it writes what it has found, and what parts need of the machine."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
BUILD = ROOT / "build" / "gpu_check"


class Run:
    """What a part is told, and where it writes what it has found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device: str = options.device
        self.dry: bool = options.dry
        self.fake: bool = options.fake
        self.out: Path = options.out
        self.wheels: Path | None = options.wheels
        self.end = time.monotonic() + options.seconds
        self._file: Path = options.result

    @property
    def gpu(self) -> bool:
        """Tell whether the device is a GPU, or pretends to be one."""
        return self.device.startswith("cuda")

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.end - time.monotonic()

    def before(self, part: str) -> dict[str, Any]:
        """Return what a part had found when it ran before, {} if nothing."""
        file = self.out / f"{part}.json"
        found = json.loads(file.read_text()).get("result") if file.exists() else None
        return found or {}

    def save(self, result: dict[str, Any]) -> None:
        """Write what has been found so far."""
        part = self._file.with_suffix(".writing")
        part.write_text(json.dumps(result))
        part.replace(self._file)

    def python(self, *argv: str) -> list[str]:
        """Return the command that runs Python so, on the made-up GPU if this is a check of that."""
        return [sys.executable, *(("-m", "gpu_check.fake") if self.fake else ()), *argv]

    def engine(self, *argv: str) -> dict[str, Any]:
        """Run `fp16engine ... --json` and return its document; notes go to the log."""
        limit = max(self.left(), 1)
        try:
            done = subprocess.run(
                [*self.python("-m", "fp16engine"), *argv, "--device", self.device, "--json"],
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


def own_python() -> str:
    """Return the interpreter of the parts: that of the environment `build` makes of --wheels, if it did."""
    own = BUILD / "venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable
