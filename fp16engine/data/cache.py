"""Decoded images kept in one .npz, so that only the first load decodes.

It lies in the user's own cache folder: a file beside the images would be anyone's who may write there.
"""

from __future__ import annotations

import hashlib
import os
import uuid
import warnings
from pathlib import Path

import numpy as np

from .dataset import Dataset, Split
from .folders import user_cache

_ARRAYS = ("fingerprint", "classes", "train_images", "train_labels", "test_images", "test_labels")


def path_of(root: Path) -> Path:
    """Returns where the cache of `root` lies."""
    full = root.resolve()
    mark = hashlib.sha256(os.fsencode(full)).hexdigest()[:16]
    return user_cache() / f"{full.name}-{mark}.npz"


def read(root: Path, name: str, fingerprint: str) -> Dataset | None:
    """Returns the cached data set with this fingerprint, or None; warns about a cache that cannot be read."""
    path = path_of(root)
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            if str(arrays["fingerprint"]) != fingerprint:
                return None
            train, test = (
                Split(arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in ("train", "test")
            )
            return Dataset(name, train, test, tuple(arrays["classes"]))
    except Exception as error:  # damaged bytes can make np.load raise nearly anything
        warnings.warn(
            f"{path.name}: cache is damaged ({error}), so the images are decoded again", stacklevel=3
        )
        return None


def write(root: Path, dataset: Dataset, fingerprint: str) -> None:
    """Writes the cache, whole or not at all; warns if the disk refuses."""
    values = (
        np.array(fingerprint), np.array(dataset.classes),
        dataset.train.images, dataset.train.labels, dataset.test.images, dataset.test.labels,
    )  # fmt: skip
    path = path_of(root)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_atomically(path, dict(zip(_ARRAYS, values, strict=True)))
    except OSError as error:
        warnings.warn(
            f"{root.name}: cache not written ({error}), so the next load decodes again", stacklevel=3
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
