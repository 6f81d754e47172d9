"""The data sets by the names that `--data` takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import DataError
from ..validate import choice, flag, must_be
from .cifar import cifar10, cifar100
from .dataset import Dataset
from .digits import digits
from .idx import fashion_mnist, mnist
from .images import image_folder

_Loader = Callable[[str | Path | None, bool], Dataset]


def _digits(root: str | Path | None, download: bool) -> Dataset:
    if root is not None:
        valid = "left out with digits, which come with the package"
        raise ValueError(must_be("root (--data-dir)", valid, str(root)))
    return digits()


_LOADERS: dict[str, _Loader] = {
    "digits": _digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
}
_OWN = "image_folder"


def names() -> list[str]:
    """Return the names that `load` takes.

    >>> from fp16engine import data
    >>> data.names()
    ['digits', 'mnist', 'fashion_mnist', 'cifar10', 'cifar100', 'image_folder']
    """
    return [*_LOADERS, _OWN]


def load(
    name: str,
    root: str | Path | None = None,
    download: bool = False,
    *,
    image_size: int | Sequence[int] | None = None,
    test_share: float | None = None,
    seed: int = 0,
) -> Dataset:
    """Return a data set by name.

    Args:
        name: one of `names()`.
        root: folder or archive that holds it; None for `digits`, which come with the package.
        download: get published files that are missing, into `root` or else into the user's cache folder.
        image_size: of `image_folder`.
        test_share: of `image_folder`.
        seed: of `image_folder`.

    Raises:
        ValueError: an unknown name, or an argument that its data set does not have.
        FileNotFoundError: nothing at `root`, or a file is missing there.
        DataError: no root given, or the files are damaged.

    >>> from fp16engine import data
    >>> len(data.load("digits").train)
    1437
    """
    choice("data", name, names())
    flag("download", download)
    if name == _OWN:
        if download:
            raise DataError("image_folder: download must be False, as these are your own images, got True")
        return image_folder(root, image_size, test_share, seed)
    given = {"image_size": image_size, "test_share": test_share, "seed": seed or None}
    for option, value in given.items():
        if value is not None:
            raise ValueError(must_be(option, f"left out with {name}, which is as published", value))
    return _LOADERS[name](root, download)
