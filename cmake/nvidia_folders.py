"""Names the folders of NVIDIA's headers and programs in wheels of the environment that builds, for CMake."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path


def headers() -> Iterator[Path]:
    """Yield nvidia/*/include and what lies next to the packages, for every folder that is imported from."""
    for entry in _entries():
        for folder in sorted(entry.glob("nvidia/*/include")):
            yield folder
            if (folder / "cccl").is_dir():  # libcu++, which cuda_fp16.h includes
                yield folder / "cccl"
        if (entry / "include/cudnn_frontend.h").is_file():  # the wheel of cudnn-frontend
            yield entry / "include"


def programs() -> Iterator[Path]:
    """Yield nvidia/*/bin, where the wheel nvidia-cuda-nvcc puts its compiler."""
    for entry in _entries():
        yield from sorted(entry.glob("nvidia/*/bin"))


def _entries() -> Iterator[Path]:
    return map(Path, dict.fromkeys(filter(None, sys.path)))


if __name__ == "__main__":
    print(";".join(map(str, {"headers": headers, "programs": programs}[sys.argv[1]]())))
