"""People's own images: train/<class>/* and test/<class>/* in a folder or an archive."""

from __future__ import annotations

import hashlib
import io
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np

from ..bounded import check_regular, read_regular
from ..errors import DataError
from ..validate import shown
from . import archive, folders
from . import cache as store
from .dataset import Dataset, Split

_SUFFIXES = (".jpg", ".jpeg", ".png")
_LAYOUT = "train/<class>/ and test/<class>/ with .jpg, .jpeg or .png files"
_FILE_LIMIT = 1 << 26  # bytes of one packed image
_ARCHIVE_LIMIT = 1 << 34
_PIXELS = 1 << 24  # of one image: networks take it whole, as it is
_PIXELS_AT_ONCE = 1 << 25  # in the threads together; Pillow takes up to 8 bytes for each
_ARRAY_FREE = 1 << 27  # bytes that any images may decode to
_ARRAY_RATIO = 100  # and so many times their files' own bytes, which only flat pictures pass
_BATCH = 256  # images decoded by a thread in one go
_THREADS = min(8, os.cpu_count() or 1)
_VERSION = "1"  # changes when the same files would give another array
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_GRAY = ("1", "L", "LA")
_MODES = (*_GRAY, "P", "PA", "RGB", "RGBA", "CMYK")  # 8 bits a channel; others would lose precision unseen


class _File(NamedTuple):
    """One image file: where it is, and its bytes or path."""

    split: str
    label: str
    name: str
    source: bytes | Path

    @property
    def path(self) -> str:
        return f"{self.split}/{self.label}/{self.name}"

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.source) if isinstance(self.source, bytes) else os.stat(self.source).st_size

    def read(self) -> bytes:
        """Return the whole file, from the disk if it lies there."""
        if isinstance(self.source, bytes):
            return self.source
        return read_regular(self.source, _FILE_LIMIT, self.path)


class _Found(NamedTuple):
    files: list[_File]
    class_folders: set[tuple[str, str]]


def _is_wanted(name: str) -> bool:
    """Tell whether a member of an archive is an image below train or test."""
    return _is_image(name) and any(part in ("train", "test") for part in name.split("/", 2)[:2])


def _is_image(name: str) -> bool:
    base = name.rsplit("/", 1)[-1]
    return base.lower().endswith(_SUFFIXES) and not base.startswith(".") and not name.startswith("__MACOSX/")


def _in_folder(root: Path) -> _Found:
    found = _Found([], set())
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise FileNotFoundError(f"{root} must hold {_LAYOUT}, got no folder {split}")
        for entry in _visible(root / split):
            if not Path(entry.path).is_dir():
                if _is_image(entry.name):
                    raise DataError(
                        f"{root.name} must hold {_LAYOUT}, got {split}/{entry.name} outside a class"
                    )
                continue
            found.class_folders.add((split, entry.name))
            for item in _visible(entry.path):
                if Path(item.path).is_dir():  # item.is_dir() raises for a link to itself
                    raise DataError(
                        f"{root.name} must hold {_LAYOUT}, got a folder inside a class: "
                        f"{split}/{entry.name}/{item.name}"
                    )
                if _is_image(item.name):
                    file = _File(split, entry.name, item.name, Path(item.path))
                    check_regular(Path(item.path), _FILE_LIMIT, file.path)
                    found.files.append(file)
    return found


def _visible(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _in_archive(path: Path) -> _Found:
    found, prefixes = _Found([], set()), set()
    for member in archive.members(path, _is_wanted, _FILE_LIMIT, _ARCHIVE_LIMIT):
        parts = PurePosixPath(member.name).parts
        at = next((i for i, part in enumerate(parts[:2]) if part in ("train", "test")), None)
        if member.data is None:
            if at is not None and len(parts) == at + 2 and not parts[-1].startswith("."):
                found.class_folders.add((parts[at], parts[at + 1]))
            continue
        if at is None or len(parts) != at + 3:
            raise DataError(f"{path.name} must hold {_LAYOUT}, got member {shown(member.name)}")
        prefixes.add(parts[:at])
        split, label, name = parts[at:]
        image = _File(split, label, name, member.data)
        if not member.data.startswith((_PNG, _JPEG)):  # before a million of them are read
            raise DataError(f"{path.name}: {shown(image.path)} must be a whole JPEG or PNG file, got another")
        found.files.append(image)
    if len(prefixes) > 1:
        raise DataError(f"{path.name} must hold images below one folder, got {len(prefixes)} folders")
    if len({file.path for file in found.files}) != len(found.files):
        raise DataError(f"{path.name} must hold different names, got an image's name twice")
    return found


def _classes(found: _Found, root: Path) -> tuple[str, ...]:
    """Return the sorted class names of the training images, or raises DataError."""
    filled = {(file.split, file.label) for file in found.files}
    for split, label in sorted(found.class_folders - filled):
        raise DataError(f"{split}/{label} must hold at least one .jpg, .jpeg or .png file, got none")
    for part in ("train", "test"):
        if not any(split == part for split, _ in filled):
            raise DataError(f"{root.name} must hold {_LAYOUT}, got no {part} images")
    classes = sorted(label for split, label in filled if split == "train")
    for split, label in sorted(filled):
        if label not in classes:
            raise DataError(
                f"{split}/{label} must be a class with training images, got no folder train/{label}"
            )
    return tuple(classes)


def _ordered(files: Iterable[_File], split: str) -> list[_File]:
    """Sorts by name and deals the classes out in turn, so that the first n images hold all of them."""
    by_class: dict[str, list[_File]] = {}
    for file in sorted(
        (file for file in files if file.split == split), key=lambda file: (file.label, file.name)
    ):
        by_class.setdefault(file.label, []).append(file)
    ranked = [(rank, file.label, file) for group in by_class.values() for rank, file in enumerate(group)]
    return [file for _, _, file in sorted(ranked, key=lambda item: item[:2])]


def _fingerprint(found: _Found) -> str:
    """Names the content: two folders or archives share one only if every name and byte is the same."""
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = pool.map(lambda file: hashlib.sha256(file.read()).hexdigest(), found.files)
        lines = sorted(f"{file.path}\0{digest}" for file, digest in zip(found.files, sums, strict=True))
    return hashlib.sha256("\n".join([_VERSION, *lines]).encode("utf-8", "surrogateescape")).hexdigest()


def _pillow() -> Any:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DataError("image_folder needs the package Pillow; pip install 'fp16engine[data]'") from error
    return Image, ImageOps


def _check_depth(data: bytes, path: str) -> None:
    """Refuse a PNG of 16 bits a channel by its header: Pillow halves most of them without a word."""
    depth = data[24] if len(data) > 24 and data.startswith(_PNG) else 8
    if depth > 8:
        raise DataError(
            f"{path} must have 8 bits a channel, got {depth}; for example, ImageMagick's convert -depth 8 "
            "makes such a file"
        )


def _open(file: _File) -> Any:
    """Open an image in the orientation it is shown in; pixels are decoded later."""
    image_module, operations = _pillow()
    data = file.read()
    _check_depth(data, file.path)
    image = image_module.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    width, height = image.size
    if width * height > _PIXELS:
        raise DataError(f"{file.path} must have at most {_PIXELS} pixels, got {width}x{height}")
    return operations.exif_transpose(image) if "exif" in image.info else image


def _pixels(file: _File, size: tuple[int, int], gray: bool, first: str) -> np.ndarray | None:
    """Return (H, W) if `gray`, else (H, W, 3); None if `gray` and the image has colour."""
    image = _open(file)
    if image.size != size:
        got, valid = ("x".join(map(str, pair)) for pair in (image.size, size))
        raise DataError(f"{file.path} must be {valid} (width x height) as {first} is, got {got}")
    if image.mode not in _MODES:
        raise DataError(f"{file.path} must have 8 bits a channel, got pixels of mode {image.mode}")
    has_alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    if has_alpha and image.convert("RGBA").getextrema()[3] != (255, 255):
        raise DataError(f"{file.path} must be opaque, got transparent pixels")
    if gray and image.mode not in _GRAY:
        return None
    return np.asarray(image.convert("L" if gray else "RGB"))


def _named(file: _File, error: Exception) -> DataError:
    said = shorten(str(error) or type(error).__name__, 200)
    if isinstance(error, _pillow()[0].UnidentifiedImageError):  # whose text is the address of a stream
        said = "no image that is known"
    return DataError(f"{file.path} must be a whole JPEG or PNG file, got one that is not decoded ({said})")


def _check_total(files: list[_File], size: int) -> None:
    """Refuse more pixels than real images pack into files of this size, before any memory is taken."""
    limit = _ARRAY_FREE + _ARRAY_RATIO * sum(file.size for file in files)
    if size > limit:
        raise DataError(
            f"{files[0].path} and the {len(files) - 1} other images must decode to at most {limit} bytes, as "
            f"their files are small, got {size}"
        )


def _decode_as(files: list[_File], gray: bool) -> np.ndarray | None:
    """Return (N, H, W, 1) if `gray`, else (N, H, W, 3); None if `gray` and one image has colour."""
    first = files[0]
    try:
        width, height = size = _open(first).size
        shape = (len(files), height, width, 1 if gray else 3)
        _check_total(files, math.prod(shape))
        images = np.empty(shape, np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{first.path} must be smaller, got {len(files)} images of {width}x{height}, which exceed memory"
        ) from error
    except DataError:
        raise
    except Exception as error:  # damaged bytes can make a decoder raise nearly anything
        raise _named(first, error) from error

    def fill(start: int) -> bool:
        for at, file in enumerate(files[start : start + _BATCH], start):
            try:
                pixels = _pixels(file, size, gray, first.path)
            except DataError:
                raise
            except Exception as error:
                raise _named(file, error) from error
            if pixels is None:
                return False
            images[at] = pixels.reshape(images.shape[1:])
        return True

    with ThreadPoolExecutor(min(_THREADS, max(1, _PIXELS_AT_ONCE // (width * height)))) as pool:
        return images if all(pool.map(fill, range(0, len(files), _BATCH))) else None


def _decode(files: list[_File]) -> np.ndarray:
    with warnings.catch_warnings():  # our own limit on pixels is below the one that Pillow warns of
        warnings.simplefilter("ignore", _pillow()[0].DecompressionBombWarning)
        images = _decode_as(files, gray=True)
        return _decode_as(files, gray=False) if images is None else images  # type: ignore[return-value]


def image_folder(root: str | Path | None, cache: bool = True) -> Dataset:
    """Return people's own images from `train/<class>/` and `test/<class>/`, in a folder or an archive.

    Files are .jpg, .jpeg or .png and all of one size. The images (N, H, W, C), uint8, have one channel if
    every file is gray, else three. Classes are sorted by name; within a split the classes take turns, so
    `limit(n)` holds all of them. Archives are read without unpacking them to disk. Decoding needs the extra
    `data` (Pillow).

    Args:
        root: folder, or .tar, .tar.gz, .tgz or .zip of one (a leading folder is allowed).
        cache: keep the decoded images in one file in the user's cache folder, and use it as long as names and
            bytes of the files stay as they are.

    Raises:
        FileNotFoundError: the root, `train` or `test` is missing.
        DataError: an empty class, images of different sizes, a damaged, transparent or 16-bit image, a
            damaged archive or one with links; the message names the file.

    >>> image_folder("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: ...
    """
    path = folders.existing(root, "image_folder", f"a folder or archive with {_LAYOUT}")
    packed = not path.is_dir()
    if packed and not archive.is_archive(path.name):
        raise DataError(f"root must be a folder or {', '.join(archive.ARCHIVE_SUFFIXES)}, got {path.name}")
    name = path.resolve().name
    if packed:
        check_regular(path, _ARCHIVE_LIMIT)
        name = archive.stem(name)
    found = _in_archive(path) if packed else _in_folder(path)
    classes = _classes(found, path)
    fingerprint = _fingerprint(found) if cache else ""
    if cache and (known := store.read(name, fingerprint)) is not None:
        return known
    train, test = (_ordered(found.files, split) for split in ("train", "test"))
    images = _decode(train + test)
    numbers = {label: number for number, label in enumerate(classes)}
    labels = np.array([numbers[file.label] for file in train + test], np.int64)
    cut = len(train)
    dataset = Dataset(name, Split(images[:cut], labels[:cut]), Split(images[cut:], labels[cut:]), classes)
    if cache:
        store.write(dataset, fingerprint)
    return dataset
