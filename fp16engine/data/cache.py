"""Decoded images kept in one .npz in the user's cache folder, so that only the first load decodes.

Never next to the images: who may write there is not always who reads. Its name and its entry `fingerprint`
are made from the bytes of the images, so a cache belongs to what was decoded, wherever that lies.
"""

from __future__ import annotations

import os
import uuid
import warnings
import zipfile
from pathlib import Path

import numpy as np

from ..bounded import check_regular
from .dataset import Dataset, Split
from .folders import user_cache

_LIMIT = 1 << 38  # bytes
_ARRAYS = (
    "fingerprint", "classes", "train_images", "train_labels", "train_names",
    "test_images", "test_labels", "test_names", "notes",
)  # fmt: skip


def path_of(fingerprint: str) -> Path:
    """Return where the images with this fingerprint are kept."""
    return user_cache() / f"images-{fingerprint[:32]}.npz"


def read(name: str, fingerprint: str) -> Dataset | None:
    """Return the cached data set with this fingerprint, or None; warns about a cache that cannot be read."""
    path = path_of(fingerprint)
    try:
        check_regular(path, _LIMIT)
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            if any(info.compress_type != zipfile.ZIP_STORED for info in arrays.zip.infolist()):
                raise ValueError("an array is compressed")  # ours are not, and so cannot unpack to more
            if str(arrays["fingerprint"]) != fingerprint:
                raise ValueError("it belongs to other images")
            train, test = (
                Split(
                    arrays[f"{part}_images"],
                    arrays[f"{part}_labels"],
                    tuple(map(str, arrays[f"{part}_names"])),
                )
                for part in ("train", "test")
            )
            notes = tuple(map(str, arrays["notes"]))
            return Dataset(name, train, test, tuple(arrays["classes"]), notes=notes)
    except (FileNotFoundError, PermissionError):
        pass
    except Exception as error:  # damaged bytes can make np.load raise nearly anything
        warnings.warn(
            f"{path.name}: cache is damaged ({error}), so the images are decoded again", stacklevel=3
        )
    return None


def write(dataset: Dataset, fingerprint: str) -> None:
    """Write the cache, whole or not at all; warns if it cannot be written."""
    values = (
        np.array(fingerprint), np.array(dataset.classes),
        dataset.train.images, dataset.train.labels, np.array(dataset.train.names, np.str_),
        dataset.test.images, dataset.test.labels, np.array(dataset.test.names, np.str_),
        np.array(dataset.notes, np.str_),
    )  # fmt: skip
    path = path_of(fingerprint)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_atomically(path, dict(zip(_ARRAYS, values, strict=True)))
    except OSError as error:
        warnings.warn(
            f"{dataset.name}: cache not written ({error}), so the next load decodes again", stacklevel=3
        )


def _write_atomically(path: Path, arrays: dict[str, np.ndarray]) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(temporary, "xb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
