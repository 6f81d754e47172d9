"""Decoded images kept in one .npz, so that only the first load decodes."""

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


def places(root: Path) -> tuple[Path, Path]:
    """Returns where the cache of `root` may lie: beside it, or in the user's cache folder."""
    full = root.resolve()
    mark = hashlib.sha256(str(full).encode()).hexdigest()[:16]
    return full.parent / f".{full.name}.fp16engine.npz", user_cache() / f"{full.name}-{mark}.npz"


def read(root: Path, name: str, fingerprint: str) -> Dataset | None:
    """Returns the cached data set with this fingerprint, or None; warns about a cache that cannot be read."""
    for path in places(root):
        try:
            if not path.is_file():
                continue
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                if str(arrays["fingerprint"]) != fingerprint:
                    continue
                train, test = (
                    Split(arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in ("train", "test")
                )
                return Dataset(name, train, test, tuple(arrays["classes"]))
        except PermissionError:
            continue
        except Exception as error:  # damaged bytes can make np.load raise nearly anything
            warnings.warn(
                f"{path.name}: cache is damaged ({error}), so the images are decoded again", stacklevel=3
            )
    return None


def write(root: Path, dataset: Dataset, fingerprint: str) -> None:
    """Writes the cache at the first place that takes it, whole or not at all; warns if none does."""
    reason: OSError | None = None
    values = (
        np.array(fingerprint), np.array(dataset.classes),
        dataset.train.images, dataset.train.labels, dataset.test.images, dataset.test.labels,
    )  # fmt: skip
    for path in places(root):
        try:
            if path.parent != root.resolve().parent:
                path.parent.mkdir(parents=True, exist_ok=True)
            elif not path.parent.stat().st_mode & 0o222:  # asked by mode: the super-user may write anywhere
                continue
            _write_atomically(path, dict(zip(_ARRAYS, values, strict=True)))
            return
        except OSError as error:
            reason = error
    warnings.warn(f"{root.name}: cache not written ({reason}), so the next load decodes again", stacklevel=3)


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
