"""Finds NVIDIA's run-time libraries for the CUDA backend and loads them in the order of their needs."""

from __future__ import annotations

import ctypes
import ctypes.util
import fnmatch
import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import BackendUnavailable

INSTALL = "pip install 'fp16engine[cuda13-libraries]'"


@dataclass(frozen=True)
class Library:
    """A library by its short name: `file` matches the name it is linked by, `package` is its wheel."""

    name: str
    file: str
    package: str

    def is_in(self, path: str) -> bool:
        """Tell whether a file is this library: by its link's name, or with all of its version behind that."""
        name = os.path.basename(path)
        return any(fnmatch.fnmatch(name, pattern) for pattern in (self.file, f"{self.file}.*"))


# Order of loading. NVRTC looks for its builtins, and cuDNN for NVRTC, by file name only: neither knows the
# folders of the wheels, so each must be in the process before the next one asks for it.
LIBRARIES = (
    Library("nvrtc-builtins", "libnvrtc-builtins.so.13.*", "nvidia-cuda-nvrtc"),
    Library("nvrtc", "libnvrtc.so.13", "nvidia-cuda-nvrtc"),
    Library("cublasLt", "libcublasLt.so.13", "nvidia-cublas"),
    Library("cublas", "libcublas.so.13", "nvidia-cublas"),
    Library("cudnn", "libcudnn.so.9", "nvidia-cudnn-cu13"),
)


@dataclass(frozen=True)
class Found:
    """Where a library is: `source` is "loaded", "wheel", "conda", "toolkit" or "system".

    `path` is a file, or for "system" the name the loader finds it by.
    """

    path: str
    source: str


def find() -> dict[str, Found | None]:
    """Return where each library of the CUDA backend would be loaded from, None for those not found.

    Looks, in this order, at the libraries that are in the process already (those of a framework imported
    before: a second copy of one would be a second state), the `nvidia-*` wheels on `sys.path`, a conda
    environment, a CUDA toolkit (CUDA_PATH, CUDA_HOME, /usr/local/cuda), the system's loader. Loads nothing.
    """
    loaded = _loaded_files()
    return {library.name: _find(library, loaded) for library in LIBRARIES}


def preload() -> dict[str, str]:
    """Load every library for the whole process and return their paths by name.

    What `find` does not know is asked of the package `cuda-pathfinder`, if that is installed.

    Raises:
        BackendUnavailable: one is not found, or cannot be loaded; the message says which and what brings it.
    """
    found = find()
    paths = {name: file.path if file else None for name, file in found.items()}
    for library in LIBRARIES:
        path = paths[library.name] or _ask_pathfinder(library)
        if path is None:
            continue
        try:
            ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_GLOBAL)
        except OSError as error:
            raise BackendUnavailable(f"{library.name} could not be loaded ({error}); {INSTALL}") from error
        paths[library.name] = path
    missing = [library for library in LIBRARIES if paths[library.name] is None]
    if missing:
        names = ", ".join(library.name for library in missing)
        packages = ", ".join(dict.fromkeys(library.package for library in missing))
        raise BackendUnavailable(f"{names} not found on this machine; {INSTALL} brings {packages}")
    return {name: path for name, path in paths.items() if path is not None}


def _find(library: Library, loaded: list[str]) -> Found | None:
    for path in loaded:
        if library.is_in(path):
            return Found(path, "loaded")
    for source, folder in _folders():
        # The newest of several builtins; "libnvrtc-builtins.alt.so.13.0" does not match.
        files = sorted(folder.glob(library.file))
        if files:
            return Found(str(files[-1]), source)
    if "*" not in library.file:
        name = ctypes.util.find_library(library.name)
        if name and library.is_in(name):
            return Found(name, "system")
    return None


def _folders() -> Iterator[tuple[str, Path]]:
    for entry in _import_path():
        for folder in sorted(entry.glob("nvidia/*/lib")):
            yield "wheel", folder
    if os.environ.get("CONDA_PREFIX"):
        yield "conda", Path(os.environ["CONDA_PREFIX"], "lib")
    roots = (os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda")
    for root in dict.fromkeys(filter(None, roots)):
        yield "toolkit", Path(root, "lib64")
        for folder in sorted(Path(root).glob("targets/*/lib")):
            yield "toolkit", folder
    for searched in filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")):
        yield "system", Path(searched)
    # NVRTC's builtins have no name the loader could be asked for: they are next to the system's NVRTC.
    for fixed in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"):
        yield "system", Path(fixed)


def _import_path() -> list[Path]:
    return [Path(entry or ".") for entry in dict.fromkeys(sys.path)]


def _loaded_files() -> list[str]:
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:  # no Linux
        return []
    return list(dict.fromkeys(line[line.index("/") :] for line in lines if "/" in line and ".so" in line))


def _ask_pathfinder(library: Library) -> str | None:
    try:
        pathfinder = importlib.import_module("cuda.pathfinder")
    except ImportError:
        return None
    try:
        path: str | None = pathfinder.load_nvidia_dynamic_lib(library.name).abs_path
    except pathfinder.DynamicLibNotFoundError:  # also raised for a name it does not know
        return None
    return path if path and library.is_in(path) else None
