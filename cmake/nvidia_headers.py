"""Names the folders of NVIDIA's headers in the wheels of the building environment; run by CMake."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path


def folders() -> Iterator[Path]:
    """Yield nvidia/*/include and what lies next to the packages, for every folder that is imported from."""
    for entry in map(Path, dict.fromkeys(filter(None, sys.path))):
        for folder in sorted(entry.glob("nvidia/*/include")):
            yield folder
            if (folder / "cccl").is_dir():  # libcu++, which cuda_fp16.h includes
                yield folder / "cccl"
        if (entry / "include/cudnn_frontend.h").is_file():  # the wheel of cudnn-frontend
            yield entry / "include"


if __name__ == "__main__":
    print(";".join(map(str, folders())))
