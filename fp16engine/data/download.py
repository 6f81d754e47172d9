"""Published files by name: where they are, and the checksum each must have."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError


class File(NamedTuple):
    """What a published file must be."""

    size: int
    sha256: str


class Published(NamedTuple):
    """The addresses of a data set (each ends in a slash) and its files by name."""

    addresses: tuple[str, ...]
    files: dict[str, File]


_TIMEOUT = 30  # seconds without an answer
_TORONTO = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")

PUBLISHED = {
    # Sizes and SHA-256 published by TensorFlow Datasets (url_checksums/mnist.txt). Checked: packing the
    # uncompressed files again with gzip level 6, their old names and dates (1996, 1998) gives these sums.
    "mnist": Published(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        {
            "train-images-idx3-ubyte.gz": File(
                9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
            ),
            "train-labels-idx1-ubyte.gz": File(
                28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
            ),
            "t10k-images-idx3-ubyte.gz": File(
                1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
            ),
            "t10k-labels-idx1-ubyte.gz": File(
                4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
            ),
        },
    ),
    # Sizes and SHA-256 published by TensorFlow Datasets (url_checksums/fashion_mnist.txt).
    "fashion_mnist": Published(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        {
            "train-images-idx3-ubyte.gz": File(
                26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
            ),
            "train-labels-idx1-ubyte.gz": File(
                29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
            ),
            "t10k-images-idx3-ubyte.gz": File(
                4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
            ),
            "t10k-labels-idx1-ubyte.gz": File(
                5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
            ),
        },
    ),
    # Sizes and SHA-256 published by TensorFlow Datasets (url_checksums/cifar10.txt, cifar100.txt). The
    # binary archives are taken rather than the pickled ones: there is nothing in them to run.
    "cifar10": Published(
        _TORONTO,
        {
            "cifar-10-binary.tar.gz": File(
                170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
            )
        },
    ),
    "cifar100": Published(
        _TORONTO,
        {
            "cifar-100-binary.tar.gz": File(
                168513733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
            )
        },
    ),
}


def _download(size: int) -> Callable[[str, str, object], None]:
    """Return what pooch calls to get a file; it stops at `size` bytes and closes its connection."""
    import requests

    def download(address: str, path: str, _: object) -> None:
        left = size
        options: dict[str, Any] = {
            "stream": True,
            "timeout": _TIMEOUT,
            "headers": {"Accept-Encoding": "identity"},
        }
        with requests.get(address, **options) as response, open(path, "wb") as target:
            response.raise_for_status()
            for part in response.iter_content(1 << 20):
                left -= len(part)
                if left < 0:
                    raise ValueError(f"more than {size} bytes")
                target.write(part)

    return download


def fetch(name: str, folder: Path, skip: Collection[str] = ()) -> None:
    """Download the files of `name` into `folder`; each is checked by its SHA-256 before it gets its name.

    Args:
        name: a key of PUBLISHED.
        folder: where to; it exists.
        skip: file names that are not needed. A file that is there already is left as it is.

    Raises:
        DataError: pooch is not installed, or no address gave the file with the right checksum.
    """
    published = PUBLISHED[name]
    missing = [file for file in published.files if file not in skip and not (folder / file).exists()]
    if not missing:
        return
    try:
        import pooch
    except ImportError as error:
        raise DataError("download needs the package pooch; pip install 'fp16engine[data]'") from error
    for file in missing:
        size, sha256 = published.files[file]
        reasons = []
        for address in published.addresses:
            try:
                pooch.retrieve(address + file, f"sha256:{sha256}", file, folder, downloader=_download(size))
                break
            except (OSError, ValueError) as error:  # all that requests raises, and a wrong checksum
                reasons.append(textwrap.shorten(str(error), 150))
        else:
            raise DataError(f"{file} must be downloaded whole, got {'; '.join(reasons)}")
