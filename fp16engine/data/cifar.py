"""CIFAR-10 and CIFAR-100 from their python (pickled) or binary archives, packed or unpacked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bounded import read_regular
from ..errors import DataError
from ..validate import flag
from . import archive, folders
from .dataset import Dataset, Split, check_labels
from .download import fetch
from .origin import Origin
from .unpickle import read_dict

_PIXELS = 3 * 32 * 32
_TRAIN_LIMIT = 200_000_000  # bytes of the training images; those published have 155 million
_ARCHIVE_LIMIT = 1 << 29

_CLASSES_10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CLASSES_100 = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo",
    "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree",
    "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree",
    "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit",
    "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper",
    "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe",
    "whale", "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip


@dataclass(frozen=True)
class _Layout:
    """One published form of a data set; a binary record is labels, of which the last counts, then pixels."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    label_bytes: int = 0
    label_key: str = ""

    @property
    def file_limit(self) -> int:
        """Bytes that a file may have."""
        return _TRAIN_LIMIT // len(self.train)


_TEN = range(1, 6)
_LAYOUTS = {
    "cifar10": (
        _Layout(
            "cifar-10-batches-bin", "cifar-10-binary.tar.gz",
            tuple(f"data_batch_{i}.bin" for i in _TEN), "test_batch.bin", label_bytes=1,
        ),
        _Layout(
            "cifar-10-batches-py", "cifar-10-python.tar.gz",
            tuple(f"data_batch_{i}" for i in _TEN), "test_batch", label_key="labels",
        ),
    ),
    "cifar100": (
        _Layout("cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), "test.bin", label_bytes=2),
        _Layout("cifar-100-python", "cifar-100-python.tar.gz", ("train",), "test", label_key="fine_labels"),
    ),
}  # fmt: skip


def _from_folder(folder: Path, layout: _Layout, names: tuple[str, ...]) -> dict[str, bytes]:
    files = {}
    for name in names:
        path = folder / name
        if not path.exists():
            raise FileNotFoundError(f"{path} must be a file of the data set, got none there")
        files[name] = read_regular(path, layout.file_limit)
    return files


def _from_archive(path: Path, layout: _Layout, names: tuple[str, ...]) -> dict[str, bytes]:
    selected = {f"{layout.folder}/{name}": name for name in names}
    files = {
        selected[member.name]: member.data
        for member in archive.members(path, selected.__contains__, layout.file_limit, _ARCHIVE_LIMIT)
        if member.data is not None
    }
    for name in names:
        if name not in files:
            raise DataError(f"{path.name} must hold {layout.folder}/{name}, got an archive without it")
    return files


def _locate(root: Path, layout: _Layout) -> Path | None:
    if root.is_file():
        return root if root.name == layout.archive else None
    for where in (root, root / layout.folder):
        if any((where / name).exists() for name in (*layout.train, layout.test)):
            return where
    packed = root / layout.archive
    return packed if packed.is_file() else None


def _decode(data: bytes, name: str, layout: _Layout, classes: int) -> tuple[np.ndarray, np.ndarray]:
    if layout.label_bytes:
        record = layout.label_bytes + _PIXELS
        if not data or len(data) % record:
            raise DataError(f"{name} must hold a multiple of {record} bytes, got {len(data)}")
        records = np.frombuffer(data, np.uint8).reshape(-1, record)
        pixels, labels = records[:, layout.label_bytes :], records[:, layout.label_bytes - 1]
    else:
        entries = read_dict(data, name)
        for key in ("data", layout.label_key):
            if key not in entries:
                raise DataError(f"{name} must hold an entry {key!r}, got none")
        pixels, labels = entries["data"], _label_array(entries[layout.label_key], name)
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_PIXELS,):
            kind = (
                f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            )
            raise DataError(f"{name}: data must be uint8 (N, {_PIXELS}), got {kind}")
        if len(labels) != len(pixels):
            raise DataError(
                f"{name} must hold a label for each of {len(pixels)} images, got {len(labels)} labels"
            )
    check_labels(labels, classes, name)
    return pixels, labels


def _label_array(values: object, name: str) -> np.ndarray:
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu":
        return values
    if isinstance(values, list) and all(type(value) is int and abs(value) < 1 << 31 for value in values):
        return np.array(values, np.int64)
    raise DataError(f"{name}: labels must be a list of small integers, got {type(values).__name__}")


def _split(files: dict[str, bytes], names: tuple[str, ...], layout: _Layout, classes: int) -> Split:
    batches = [_decode(files[name], name, layout, classes) for name in names]
    sizes = [len(labels) for _, labels in batches]
    if min(sizes) != max(sizes):
        odd = next(i for i, size in enumerate(sizes) if size != max(sizes))
        raise DataError(
            f"{names[odd]} must hold {max(sizes)} images as the other batches do, got {sizes[odd]}"
        )
    pixels = np.concatenate([pixels for pixels, _ in batches])
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Split(images, np.concatenate([labels for _, labels in batches]))


def _load(name: str, root: str | Path | None, download: bool, classes: tuple[str, ...]) -> Dataset:
    layouts = _LAYOUTS[name]
    valid = f"a folder with {layouts[0].archive} or {layouts[1].archive}, packed or unpacked"
    if flag("download", download):
        path = folders.download_target(root, name)
        if not any(_locate(path, layout) for layout in layouts):
            fetch(name, path)
    else:
        path = folders.existing(root, name, valid, folders.DOWNLOADS)
    for layout in layouts:
        where = _locate(path, layout)
        if where is not None:
            names = (*layout.train, layout.test)
            files = (
                _from_archive(where, layout, names) if where.is_file() else _from_folder(where, layout, names)
            )
            train = _split(files, layout.train, layout, len(classes))
            test = _split(files, (layout.test,), layout, len(classes))
            return Dataset(name, train, test, classes, Origin.at(name, path))
    raise FileNotFoundError(
        f"{name}: root (--data-dir) must be {valid}, got {root} without{folders.image_hint(path)}"
    )


def cifar10(root: str | Path | None = None, download: bool = False) -> Dataset:
    """Return CIFAR-10: 50 000 training and 10 000 test images (N, 32, 32, 3), labels 0 .. 9.

    Pickled batches are read by an unpickler that knows NumPy arrays only; archives are read without unpacking
    them to disk.

    Args:
        root: folder with `cifar-10-binary.tar.gz`, `cifar-10-python.tar.gz`, or what either unpacks to; or
            that archive or unpacked folder itself.
        download: get the binary archive if no form is there (162 MB, checked by SHA-256), into `root` or,
            without one, into the user's cache folder; needs the extra `data`.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        DataError: no root, or a file is truncated, damaged, refused or does not fit the others.

    Source:
        A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
        https://www.cs.toronto.edu/~kriz/cifar.html.

    >>> cifar10("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: ...
    """
    return _load("cifar10", root, download, _CLASSES_10)


def cifar100(root: str | Path | None = None, download: bool = False) -> Dataset:
    """Return CIFAR-100 with its fine labels 0 .. 99: 50 000 training and 10 000 test images (N, 32, 32, 3).

    Args:
        root: as in `cifar10`, with `cifar-100-binary.tar.gz` or `cifar-100-python.tar.gz`.
        download: as in `cifar10`.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        DataError: no root, or a file is truncated, damaged, refused or does not fit the others.

    Source:
        A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
        https://www.cs.toronto.edu/~kriz/cifar.html.

    >>> cifar100("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: ...
    """
    return _load("cifar100", root, download, _CLASSES_100)
