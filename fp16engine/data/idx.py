"""MNIST and Fashion-MNIST from idx files, plain or gzip-compressed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..validate import flag
from . import archive, folders
from .dataset import Dataset, Split, check_labels
from .download import fetch
from .origin import Origin

_LIMIT = 1 << 28  # bytes of one unpacked file; MNIST's largest has 47 million
_SUBFOLDERS = (".", "raw", "mnist", "fashion_mnist", "fashion-mnist", "MNIST/raw", "FashionMNIST/raw")
_PREFIXES = ("train", "t10k")
_KINDS = {"images": 3, "labels": 1}  # and the number of dimensions
_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def read_idx(path: str | Path, ndim: int) -> np.ndarray:
    """Read one idx file of unsigned bytes (http://yann.lecun.com/exdb/mnist, "file format").

    Args:
        path: the file, gzip-compressed if its name ends in .gz.
        ndim: how many dimensions it must have, 3 for images (N, H, W), 1 for labels (N,).

    Returns:
        uint8 array with the dimensions of the header.

    Raises:
        DataError: another magic number, a size that differs from the header, or damaged compression.
    """
    path = Path(path)
    valid_magic = 0x0800 + ndim  # two zero bytes, 8 for unsigned byte, number of dimensions
    header_size = 4 + 4 * ndim
    with archive.open_unpacked(path, _LIMIT + header_size) as stream:
        header = archive.read_up_to(stream, header_size, path.name)
        magic = int.from_bytes(header[:4], "big")
        if len(header) >= 4 and magic != valid_magic:
            raise DataError(
                f"{path.name} must begin with magic number {valid_magic} (idx{ndim}, bytes), got {magic}"
            )
        if len(header) < header_size:
            raise DataError(
                f"{path.name} must have a header of {header_size} bytes, got {len(header)} (truncated)"
            )
        shape = tuple(int.from_bytes(header[at : at + 4], "big") for at in range(4, header_size, 4))
        size = math.prod(shape)
        most = min(_LIMIT, stream.limit)
        if not 0 < size <= most:
            raise DataError(
                f"{path.name} must hold 1 to {most} bytes, got a header of {size} bytes, shape {shape}"
            )
        data = archive.read_up_to(stream, size + 1, path.name)
    if len(data) != size:
        got = f"{len(data)} (truncated)" if len(data) < size else "more"
        raise DataError(f"{path.name} must hold {size} bytes after the header of shape {shape}, got {got}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _candidates(stem: str, ndim: int) -> tuple[str, ...]:
    return tuple(f"{stem}{dot}idx{ndim}-ubyte{end}" for dot in "-." for end in ("", ".gz"))


def _find(root: Path, stem: str, ndim: int) -> Path | None:
    paths = (root / folder / name for folder in _SUBFOLDERS for name in _candidates(stem, ndim))
    return next((path for path in paths if archive.is_there(path)), None)


def _split(name: str, root: Path, prefix: str, classes: int) -> Split:
    paths = []
    for kind, ndim in _KINDS.items():
        path = _find(root, f"{prefix}-{kind}", ndim)
        if path is None:
            file = f"{prefix}-{kind}-idx{ndim}-ubyte"
            raise FileNotFoundError(
                f"{root} must hold {file} of {name}, plain or .gz, got a folder "
                f"without{folders.image_hint(root)}"
            )
        paths.append(path)
    images, labels = (read_idx(path, ndim) for path, ndim in zip(paths, _KINDS.values(), strict=True))
    if len(images) != len(labels):
        raise DataError(
            f"{paths[1].name} must hold a label for each of {len(images)} images in {paths[0].name}, "
            f"got {len(labels)} labels"
        )
    check_labels(labels, classes, paths[1].name)
    return Split(images[..., None], labels)


def _load(name: str, root: str | Path | None, download: bool, classes: tuple[str, ...]) -> Dataset:
    stems = [(f"{prefix}-{kind}", ndim) for prefix in _PREFIXES for kind, ndim in _KINDS.items()]
    if flag("download", download):
        folder = folders.download_target(root, name)
        fetch(
            name,
            folder,
            skip=[f"{stem}-idx{ndim}-ubyte.gz" for stem, ndim in stems if _find(folder, stem, ndim)],
        )
    else:
        folder = folders.existing(
            root,
            name,
            "a folder with train-images-idx3-ubyte.gz and its three companions",
            folders.DOWNLOADS,
        )
    train, test = (_split(name, folder, prefix, len(classes)) for prefix in _PREFIXES)
    return Dataset(name, train, test, classes, Origin.at(name, folder))


def mnist(root: str | Path | None = None, download: bool = False) -> Dataset:
    """Return MNIST: 60 000 training and 10 000 test images (N, 28, 28, 1) of digits, labels 0 .. 9.

    The numbers of images are those in the files' headers; every header and size is checked.

    Args:
        root: folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
            `t10k-labels-idx1-ubyte`, each plain or with `.gz`; also found in `MNIST/raw` below it.
        download: get the files that are missing (checked by SHA-256), into `root` or, without one, into the
            user's cache folder; needs the extra `data`.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        DataError: no root, or a file is truncated, damaged or does not fit the others.

    Source:
        Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist.

    >>> mnist("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: ...
    """
    return _load("mnist", root, download, tuple("0123456789"))


def fashion_mnist(root: str | Path | None = None, download: bool = False) -> Dataset:
    """Return Fashion-MNIST: 60 000 training and 10 000 test images (N, 28, 28, 1) of clothes, labels 0 .. 9.

    Args:
        root: as in `mnist`; the files are also found in `FashionMNIST/raw` below it.
        download: as in `mnist`.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        DataError: no root, or a file is truncated, damaged or does not fit the others.

    Source:
        H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747, https://github.com/zalandoresearch/fashion-mnist.

    >>> fashion_mnist("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: ...
    """
    return _load("fashion_mnist", root, download, _FASHION)
