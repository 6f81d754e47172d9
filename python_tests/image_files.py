"""Images made for tests, as files in a folder or an archive. Needs Pillow."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image", reason="Pillow (extra `data`) is not installed")

_SHAPES = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (6, 4), opaque: bool = True) -> Any:
    array = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], *_SHAPES[mode]), dtype=np.uint8)
    if opaque and mode in ("LA", "RGBA"):
        array[..., -1] = 255
    return Image.fromarray(array, mode if mode in ("LA", "CMYK") else None)


def packed(image: Any, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def unpacked(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_files(
    mode: str = "RGB", classes: tuple[str, ...] = ("cat", "dog"), train: int = 3, test: int = 2
) -> dict[str, bytes]:
    places = [
        (split, label, i)
        for split, n in (("train", train), ("test", test))
        for label in classes
        for i in range(n)
    ]
    return {
        f"{split}/{label}/{i:03}.png": packed(picture(seed, mode))
        for seed, (split, label, i) in enumerate(places)
    }


def write_folder(root: Path, files: dict[str, bytes] | None = None) -> Path:
    for name, data in (make_files() if files is None else files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def write_archive(path: Path, files: dict[str, bytes], prefix: str = "", folders: bool = True) -> Path:
    names = {prefix + name: data for name, data in files.items()}
    places = (
        sorted({str(parent) for name in names for parent in Path(name).parents} - {"."}) if folders else []
    )
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as target:
            for name in places:
                target.writestr(name + "/", b"")
            for name, data in names.items():
                target.writestr(name, data)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as target:
        for name in places:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            target.addfile(info)
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            target.addfile(info, io.BytesIO(data))
    return path
