"""The data sets by the names that `--data` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import DataError
from ..validate import choice, flag
from .cifar import cifar10, cifar100
from .dataset import Dataset
from .digits import digits
from .idx import fashion_mnist, mnist
from .images import image_folder

_Loader = Callable[[str | Path | None, bool], Dataset]


def _digits(root: str | Path | None, download: bool) -> Dataset:
    return digits()


def _image_folder(root: str | Path | None, download: bool) -> Dataset:
    if download:
        raise DataError("image_folder: download must be False, as these are your own images, got True")
    return image_folder(root)


_LOADERS: dict[str, _Loader] = {
    "digits": _digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "image_folder": _image_folder,
}


def names() -> list[str]:
    """Return the names that `load` takes.

    >>> from fp16engine import data
    >>> data.names()
    ['digits', 'mnist', 'fashion_mnist', 'cifar10', 'cifar100', 'image_folder']
    """
    return list(_LOADERS)


def load(name: str, root: str | Path | None = None, download: bool = False) -> Dataset:
    """Return a data set by name.

    Args:
        name: one of `names()`.
        root: folder or archive that holds it; `digits` comes with the package and needs none.
        download: get published files that are missing, into `root` or else into the user's cache folder.

    Raises:
        ValueError: an unknown name.
        FileNotFoundError: nothing at `root`, or a file is missing there.
        DataError: no root given, or the files are damaged.

    >>> from fp16engine import data
    >>> len(data.load("digits").train)
    1437
    """
    choice("data", name, _LOADERS)
    flag("download", download)
    return _LOADERS[name](root, download)
