"""Builds the wheels of a release for this Python: fp16engine for the CPU, and its plugin fp16engine-cuda13.

    python packaging/build_wheels.py --out dist --cuda            both, for every architecture
    python packaging/build_wheels.py --out dist                   the CPU's alone
    python packaging/build_wheels.py --out dist --wheel FILE      from a wheel that pip has built

One build has both modules; it is split into the package without `_cuda` and a plugin with nothing else, whose
libraries are NVIDIA's wheels. Then auditwheel names the oldest Linux that each runs on. Needs the extra
`release`, and for --cuda nvcc or an index that has its wheel; no GPU.

Exit status 0 if the wheels are in --out, 1 otherwise, 2 if the command line was wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from wheel.wheelfile import WheelFile

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, PLUGIN = "fp16engine", "fp16engine_cuda13"
CUDA, SIMULATOR = f"{PACKAGE}/_cuda.", f"{PACKAGE}/_simt."
# Opened at run time by name, from NVIDIA's wheels or the toolkit: never copied into a wheel of ours.
NEVER = ("libcuda.so*", "libcudart.so*", "libcublas*.so*", "libcudnn*.so*", "libnvrtc*.so*", "libnccl.so*")
METADATA = """Metadata-Version: 2.4
Name: fp16engine-cuda13
Version: {version}
Summary: The compiled CUDA module of fp16engine, for CUDA 13
License-Expression: MIT
License-File: LICENSE
Requires-Python: >=3.10
Requires-Dist: fp16engine[cuda13-libraries]=={version}
"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the checked command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "dist", help="folder of the wheels (default: dist)"
    )
    parser.add_argument("--cuda", action="store_true", help="build the CUDA module, and the plugin of it")
    parser.add_argument(
        "--archs", default="", metavar="LIST", help='as CMake names them, "80-real;90" (default: all)'
    )
    parser.add_argument("--wheel", type=Path, help="a built wheel of fp16engine to split, instead of a build")
    parser.add_argument(
        "--no-build-isolation", action="store_true", help="build with what this environment has (docs/gpu.md)"
    )
    options = parser.parse_args(argv)
    if options.archs and not options.cuda:
        parser.error("--archs needs --cuda")
    if options.wheel is not None and (options.cuda or not options.wheel.is_file()):
        parser.error(f"--wheel must be a file, without --cuda, got {options.wheel}")
    return options


def build(folder: Path, options: argparse.Namespace) -> Path:
    """Let pip build a wheel with all modules into `folder` and return it."""
    settings = [
        f"FP16ENGINE_CUDA={'ON' if options.cuda else 'OFF'}",
        f"FP16ENGINE_CUDA_ARCHS={options.archs}",
    ]
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    for setting in settings:
        command += ["-C", f"cmake.define.{setting}"]
    command += ["--no-build-isolation"] * options.no_build_isolation
    subprocess.run(command, check=True)
    (wheel,) = folder.glob(f"{PACKAGE}-*.whl")
    return wheel


def split(wheel: Path, folder: Path) -> list[Path]:
    """Write the package's wheel without CUDA module and simulator, and a plugin if it has the former."""
    with WheelFile(wheel) as source:
        names = [name for name in source.namelist() if not name.endswith("/") and name != source.record_path]
        cuda = [name for name in names if name.startswith(CUDA)]
        files = {name: source.read(name) for name in names if not name.startswith(SIMULATOR)}
        about, version = source.dist_info_path, source.parsed_filename["ver"]
        tags = "-".join(source.parsed_filename[key] for key in ("pyver", "abi", "plat"))
    parts = [write(folder / wheel.name, {n: data for n, data in files.items() if n not in cuda})]
    if cuda:
        own = f"{PLUGIN}-{version}.dist-info"
        plugin = {f"{PLUGIN}/{Path(name).name}": files[name] for name in cuda}
        plugin[f"{PLUGIN}/__init__.py"] = (ROOT / "packaging" / PLUGIN / "__init__.py").read_bytes()
        plugin[f"{PLUGIN}/_version.py"] = files[f"{PACKAGE}/_version.py"]
        plugin[f"{own}/WHEEL"] = files[f"{about}/WHEEL"]
        plugin[f"{own}/METADATA"] = METADATA.format(version=version).encode()
        plugin[f"{own}/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
        parts.append(write(folder / f"{PLUGIN}-{version}-{tags}.whl", plugin))
    return parts


def write(wheel: Path, files: dict[str, bytes]) -> Path:
    """Write a wheel; its RECORD is made by the way."""
    with WheelFile(wheel, "w") as target:
        for name, data in files.items():
            target.writestr(name, data)
    return wheel


def repair(wheel: Path, out: Path) -> None:
    """Give a wheel the tag of the oldest Linux that it runs on, and what of its libraries that has not."""
    command = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(out), str(wheel)]
    for pattern in NEVER:
        command += ["--exclude", pattern]
    subprocess.run(command, check=True)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        built, parts = Path(scratch, "built"), Path(scratch, "parts")
        built.mkdir()
        parts.mkdir()
        try:
            wheel = options.wheel or build(built, options)
            for part in split(wheel, parts):
                repair(part, options.out)
        except subprocess.CalledProcessError as error:
            print(f"{' '.join(error.cmd[:5])} ... ended with status {error.returncode}", file=sys.stderr)
            return 1
    for wheel in sorted(options.out.glob("*.whl")):
        print(f"{wheel.stat().st_size / 1e6:6.1f} MB  {wheel.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
