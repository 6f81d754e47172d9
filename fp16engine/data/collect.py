"""What people hold in other forms as a data set: arrays, batches, data sets of PyTorch or Hugging Face.

They are recognised by what they offer, so that none of these packages is imported, and read into memory
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..bounded import machine_memory
from ..errors import DataError
from ..validate import must_be, shown
from . import arrays, stratified
from .dataset import Dataset

VALID = "a data.Dataset, a pair (x, y), or an iterable of such pairs"
_IMAGES = ("image", "img", "pixel_values", "x")  # columns, in the order they are looked for
_LABELS = ("label", "labels", "fine_label", "y")
_TEST = ("test", "validation", "val", "valid")


def collected(value: Any, name: str = "dataset", seed: int = 0) -> Dataset:
    """Return a data set of what a caller gave; one that is a `Dataset` passes through.

    A pair (x, y) is what `Dataset.from_arrays` takes. An iterable gives pairs of one image and its label (a
    PyTorch `Dataset`), pairs of batches (a `DataLoader`), or records with both (Hugging Face `datasets`). A
    mapping with "train" may have "test" or "validation" next to it; else a fifth of every class is drawn.

    Raises:
        TypeError: it is none of these.
        DataError: as `Dataset.from_arrays`, or it does not fit into half of this machine's memory.

    >>> import numpy as np
    >>> batches = [(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1]))] * 3
    >>> collected(batches)
    Dataset('arrays', 10 training and 2 test images of 8x8x1, 2 classes)
    """
    if isinstance(value, Dataset):
        return value
    if isinstance(value, Mapping) and "train" in value:
        tests = [value[key] for key in _TEST if key in value]
        x, y, classes = _arrays(value["train"], name)
        test = stratified.SHARE if not tests else _arrays(tests[0], name)[:2]
        return Dataset.from_arrays(x, y, classes, test, seed=seed)
    x, y, classes = _arrays(value, name)
    return Dataset.from_arrays(x, y, classes, seed=seed)


def _arrays(value: Any, name: str) -> tuple[Any, Any, Sequence[str] | None]:
    """Return images, labels and, where they are told, the names of the classes."""
    if _is_pair(value):
        return value[0], value[1], None
    if isinstance(value, str | bytes | Mapping | np.ndarray | type) or hasattr(value, "detach"):
        raise TypeError(must_be(name, VALID, value if isinstance(value, type) else type(value)))
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    limit = (machine_memory() or 1 << 40) // 2
    for number, (x, y) in enumerate(_pairs(value, name)):
        image, label = (arrays.host(f"{name}[{number}]", part) for part in (x, y))
        if label.ndim == 0:
            image, label = image[None], label[None]
        if image.ndim == 3:
            image = image[..., None]
        if image.ndim != 4 or label.shape != image.shape[:1]:
            raise DataError(
                f"{name}: entry {number} must be an image and its label, or a batch (N, H, W, C) and its "
                f"labels (N,), got shapes {np.shape(x)} and {np.shape(y)}"
            )
        if images and image.shape[1:] != images[0].shape[1:]:
            raise DataError(
                f"{name}: entry {number} must have images of shape {images[0].shape[1:]} as those before, "
                f"got {image.shape[1:]}"
            )
        limit -= image.nbytes
        if limit < 0:
            raise DataError(
                f"{name} must fit into half of this machine's memory, got more in {number + 1} entries"
            )
        images.append(image)
        labels.append(label)
    if not images:
        raise DataError(f"{name} must hold at least one image, got none")
    return np.concatenate(images), np.concatenate(labels), _class_names(value)


def _is_pair(value: Any) -> bool:
    """Tell (x, y) from a list of two pairs: the second entry is labels, an array (N,) or a list of them."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    y = value[1]
    if isinstance(y, tuple | list):
        return bool(y) and isinstance(y[0], int | str | np.integer)
    return len(getattr(y, "shape", ())) == 1


def _pairs(value: Any, name: str) -> Iterator[tuple[Any, Any]]:
    for number, entry in enumerate(_entries(value, name)):
        if isinstance(entry, Mapping):
            columns = [next((key for key in keys if key in entry), None) for keys in (_IMAGES, _LABELS)]
            if None in columns:
                raise DataError(
                    f"{name}: entry {number} must have an image and a label, got the columns "
                    f"{', '.join(map(str, entry))}"
                )
            yield entry[columns[0]], entry[columns[1]]
        elif isinstance(entry, tuple | list) and len(entry) == 2:
            yield entry[0], entry[1]
        else:
            got = shown(type(entry))
            raise TypeError(f"{name}: entry {number} must be a pair of images and labels, got {got}")


def _entries(value: Any, name: str) -> Iterator[Any]:
    """Iterate; a PyTorch `Dataset` has a length and items and need not end by IndexError."""
    if hasattr(value, "__getitem__") and hasattr(value, "__len__"):
        yield from (value[at] for at in range(len(value)))
    elif isinstance(value, Iterable):
        yield from value
    else:
        raise TypeError(must_be(name, VALID, value))


def _class_names(value: Any) -> Sequence[str] | None:
    """Return the names that a data set of torchvision (`classes`) or Hugging Face (`features`) tells."""
    inner = getattr(value, "dataset", value)  # of a DataLoader
    names = getattr(inner, "classes", None)
    features = getattr(inner, "features", None)
    if names is None and isinstance(features, Mapping):
        label = next((features[key] for key in _LABELS if key in features), None)
        names = getattr(label, "names", None)
    return tuple(map(str, names)) if isinstance(names, list | tuple) else None
