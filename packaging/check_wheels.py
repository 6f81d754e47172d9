"""Installs built wheels into an empty environment in which no compiler is to be found, and uses them.

    python packaging/check_wheels.py dist            the CPU's wheel trains digits
    python packaging/check_wheels.py dist --cuda     and the plugin loads: about 1.2 GB of NVIDIA's wheels

With --cuda: `pip install fp16engine[cuda13]` brings the plugin and NVIDIA's libraries, the plugin imports,
its libraries load, and on a machine without a GPU `fp16engine doctor` says what is missing.

Exit status 0 if all is as said, 1 otherwise, 2 if the command line was wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

PACKAGE, PLUGIN = "fp16engine", "fp16engine_cuda13"
MOST_BYTES = 12_000_000  # of the CPU's wheel
COMPILERS = ("c++", "g++", "gcc", "cc", "clang", "nvcc")
LOADS = """
from fp16engine.backend.gpu import cuda_libraries, cuda_module
module = cuda_module.load()
print(cuda_module.found(), "for", module.architectures)
for name, path in cuda_libraries.preload().items():
    print(name, path)
    if name in ("cublasLt", "cudnn"):
        module.set_library_path(name, path)
print("cuBLASLt", module.cublaslt_version(), "cuDNN", module.cudnn_version())
"""


class Wrong(Exception):
    """A sentence on what is not as it should be."""


def metadata(wheel: Path) -> Message:
    """Return a wheel's METADATA."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def look(wheel: Path) -> None:
    """Look at what a wheel holds: nothing of the other's, nothing of NVIDIA's, and not too much."""
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    compiled = sorted(name for name in names if ".so" in name)
    plugin = wheel.name.startswith(PLUGIN)
    expected = f"{PLUGIN}/_cuda." if plugin else f"{PACKAGE}/_cpu."
    if len(compiled) != 1 or not compiled[0].startswith(expected):
        raise Wrong(f"{wheel.name}: its libraries must be one {expected}*.so, got {', '.join(compiled)}")
    if not plugin and wheel.stat().st_size > MOST_BYTES:
        raise Wrong(f"{wheel.name}: must be at most {MOST_BYTES} bytes, got {wheel.stat().st_size}")
    if "-manylinux" not in wheel.name:
        raise Wrong(f"{wheel.name}: not repaired by auditwheel")
    if plugin:
        about = metadata(wheel)
        needed = f"{PACKAGE}[cuda13-libraries]=={about['Version']}"
        if about.get_all("Requires-Dist") != [needed]:
            raise Wrong(f"{wheel.name}: must require {needed} alone, got {about.get_all('Requires-Dist')}")


class Bare:
    """An environment with Python, pip and no compiler."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=True)
        self.folder, self.bin = folder, folder / "venv" / "bin"
        self.environment = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        self.environment |= {"PATH": str(self.bin), "HOME": os.environ.get("HOME", str(folder))}
        program = "import shutil, sys; print(*filter(shutil.which, sys.argv[1:]))"
        found = self.run("python", "-c", program, *COMPILERS).split()
        if found:
            raise Wrong(f"an environment without a compiler must have none, got {', '.join(found)}")

    def run(self, name: str, *arguments: str) -> str:
        """Run a program of the environment and return what it prints, which is printed too."""
        command = [str(self.bin / name), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, check=False
        )
        print(f"$ {name} {' '.join(arguments[:4])}\n{done.stdout}", flush=True)
        if done.returncode:
            raise Wrong(f"{name} {' '.join(arguments[:4])} ended with status {done.returncode}")
        return done.stdout

    def install(self, wheels: Path, what: str) -> None:
        """Let pip install from the wheels, and from the index what they require; nothing is compiled."""
        quiet = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:")
        self.run("python", *quiet, "--find-links", str(wheels.resolve()), what)


def check(wheels: Path, cuda: bool) -> None:
    """Install and use the wheels; raises Wrong."""
    found = sorted(wheels.glob("*.whl"))
    for name in (PACKAGE, PLUGIN) if cuda else (PACKAGE,):
        if sum(wheel.name.startswith(f"{name}-") for wheel in found) != 1:
            raise Wrong(f"{wheels} must have one wheel of {name}, got {[wheel.name for wheel in found]}")
    for wheel in found:
        look(wheel)
    with tempfile.TemporaryDirectory() as scratch:
        bare = Bare(Path(scratch))
        bare.install(wheels, PACKAGE)
        bare.run("fp16engine", "train", "--data", "digits", "--epochs", "1", "--out", "run")
        if cuda:
            bare.install(wheels, f"{PACKAGE}[cuda13]")
            loaded = bare.run("python", "-c", LOADS)
            if f"{PLUGIN}._cuda" not in loaded:
                raise Wrong("the CUDA module must be the plugin's")
            doctor = bare.run("fp16engine", "doctor")
            if "no NVIDIA driver" not in doctor and "cuda:0" not in doctor:
                raise Wrong("doctor must name a GPU, or say that there is no driver")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("wheels", type=Path, help="the folder that build_wheels.py has written")
    parser.add_argument("--cuda", action="store_true", help="the plugin too")
    options = parser.parse_args(argv)
    if not options.wheels.is_dir():
        parser.error(f"wheels must be a folder, got {options.wheels}")
    try:
        check(options.wheels, options.cuda)
    except Wrong as error:
        print(f"{error}", file=sys.stderr)
        return 1
    print("as said")
    return 0


if __name__ == "__main__":
    sys.exit(main())
