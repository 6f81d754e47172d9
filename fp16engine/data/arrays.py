"""Callers' arrays as pixels and labels: what is meant is taken, what may be meant otherwise is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from ..validate import must_be, shown

_FEW = 4  # channels of pictures; more are taken where the axes leave no doubt


def check_layout(name: str, shape: Sequence[int]) -> None:
    """Refuse images (N, C, H, W): few channels before a longer axis, or fewer than two equal axes after them.

    Raises:
        DataError: the images look like channels first; the message says how to turn them.

    >>> check_layout("x", (8, 28, 28, 1))
    """
    if len(shape) != 4:
        return
    _, first, second, last = shape
    if first <= _FEW < last or (first < second == last):
        raise DataError(
            f"{name} must be of shape (N, H, W, C), got {tuple(shape)}, which is channels first; "
            f"{name}.transpose(0, 2, 3, 1) (PyTorch: {name}.permute(0, 2, 3, 1)) turns it"
        )


def host(name: str, value: Any) -> np.ndarray:
    """Return an array of the host: NumPy's, a tensor's of any framework, or what a list makes.

    Raises:
        DataError: nested lists of different lengths.

    >>> host("x", [[1, 2], [3]])
    Traceback (most recent call last):
    fp16engine.errors.DataError: x must be an array, or nested lists of equal lengths, got [[1, 2], [3]]
    """
    if not isinstance(value, np.ndarray) and hasattr(value, "detach"):  # PyTorch
        value = value.detach().cpu()
    try:
        return np.asarray(value)
    except ValueError as error:
        if not isinstance(value, list | tuple):
            raise
        raise DataError(must_be(name, "an array, or nested lists of equal lengths", value)) from error


def pixels(name: str, value: Any) -> np.ndarray:
    """Return images (N, H, W, C), uint8, of an array (N, H, W) or (N, H, W, C).

    Integers are pixels 0 to 255. Floats from 0 to 1 are shares of white, times 255 and rounded once.

    Raises:
        DataError: another shape, channels first, or values beyond these ranges.

    >>> pixels("x", np.ones((2, 8, 8), np.float32)).max()
    np.uint8(255)
    """
    array = host(name, value)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.size == 0:
        raise DataError(f"{name} must be images of shape (N, H, W) or (N, H, W, C), got {array.shape}")
    check_layout(name, array.shape)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "iuf":
        raise DataError(f"{name} must be uint8 pixels, got {array.dtype}")
    low, high = array.min(), array.max()
    most = 1 if array.dtype.kind == "f" else 255
    if not (low >= 0 and high <= most):  # NaN fails as well
        raise DataError(
            f"{name} must be pixels from 0 to 255, or floats from 0 to 1, got {array.dtype} from "
            f"{_exact(low)} to {_exact(high)}; leave out what normalises them, as fit does"
        )
    if most == 255:
        return array.astype(np.uint8)
    return np.rint(array.astype(np.float64) * 255).astype(np.uint8)


def _exact(value: np.generic) -> str:
    """Return a number with all its digits, so that 1.0000001 is not called 1."""
    return str(value).removesuffix(".0")


def check_present(name: str, labels: np.ndarray, classes: Sequence[str]) -> str | None:
    """Refuse labels of one class only; of classes that have none, return in words which they are.

    >>> check_present("y", np.array([0, 2]), ("0", "1", "2"))
    'y has no label of 1 of 3 classes, the first 1'
    """
    counts = np.bincount(labels, minlength=len(classes))
    present, absent = np.flatnonzero(counts), np.flatnonzero(counts == 0)
    if len(present) == 1:
        raise DataError(f"{name} must hold at least 2 classes, got one, {shown(classes[present[0]])}")
    if not len(absent):
        return None
    return f"{name} has no label of {len(absent)} of {len(classes)} classes, the first {classes[absent[0]]}"


def labels(name: str, value: Any, classes: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels (N,), int64, and the names of the classes, of integers or of names.

    Without `classes`, integers 0 to K - 1 are their own names, and names are sorted.

    Raises:
        DataError: they are neither, or a name is no class.

    >>> labels("y", ["dog", "cat", "dog"], None)
    (array([1, 0, 1]), ('cat', 'dog'))
    """
    array = host(name, value)
    if array.ndim != 1 or array.size == 0:
        raise DataError(f"{name} must be labels of shape (N,), got shape {array.shape}")
    if array.dtype.kind == "U":
        known = tuple(map(str, np.unique(array) if classes is None else classes))
        numbers = {label: number for number, label in enumerate(known)}
        missing = next((str(label) for label in array if str(label) not in numbers), None)
        if missing is not None:
            raise DataError(f"{name} must hold names that classes holds, got {shown(missing)}")
        return np.array([numbers[str(label)] for label in array], np.int64), known
    if array.dtype.kind not in "iu":
        raise DataError(must_be(name, "integers or names of classes", array.dtype))
    if classes is not None:
        return array.astype(np.int64), tuple(map(str, classes))
    if array.min() < 0 or array.max() >= len(array):
        raise DataError(
            f"{name} must hold labels from 0 to K - 1 of K classes, got {array.min()} to {array.max()} "
            f"for {len(array)} images"
        )
    return array.astype(np.int64), tuple(map(str, range(int(array.max()) + 1)))
