"""Test images in a page, and the tables of classes that it shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ...data import Dataset

_LARGEST = 160  # pixels of a side; the page shows no image larger
MOST_ROWS = 20  # classes in the table
WIDEST = 12  # classes of a confusion matrix


def pictures(dataset: Dataset, indices: Iterable[int]) -> dict[int, str]:
    """Return test images as data addresses (PNG), by index. Needs Pillow, which matplotlib brings along."""
    white = 255 if dataset.origin is None else dataset.origin.white
    return {index: _address(dataset.test.images[index], white) for index in indices}


def _address(pixels: np.ndarray, white: int) -> str:
    from PIL import Image

    if white != 255:
        pixels = np.rint(np.minimum(pixels, white) * (255 / white)).astype(np.uint8)
    shown = pixels if pixels.shape[2] == 3 else pixels[..., 0]
    image = Image.fromarray(np.ascontiguousarray(shown))
    image.thumbnail((_LARGEST, _LARGEST))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def class_rows(classes: dict[str, Any], precision: str | None) -> list[dict[str, Any]]:
    """Return the rows of the table of classes; of many the ones on which a precision does worst."""
    accuracies = classes["accuracy"]
    rows = [
        {
            "name": name,
            "test_images": count,
            "accuracy": {key: values[i] for key, values in accuracies.items()},
        }
        for i, (name, count) in enumerate(zip(classes["names"], classes["test_images"], strict=True))
    ]
    if len(rows) <= MOST_ROWS:
        return rows
    first = precision if precision in accuracies else next(iter(accuracies), "")
    worst = sorted(rows, key=lambda row: _or_last(row["accuracy"].get(first)))
    return worst[:MOST_ROWS]


def _or_last(accuracy: float | None) -> float:
    return 2.0 if accuracy is None else accuracy


def confusions(matrix: list[list[int]], names: list[str]) -> list[tuple[str, str, int]]:
    """Return the most frequent confusions: class, what it was taken for, how often.

    >>> confusions([[3, 1], [0, 4]], ["cat", "dog"])
    [('cat', 'dog', 1)]
    """
    found = [(count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j and count]
    return [(names[i], names[j], count) for count, i, j in sorted(found, key=lambda one: -one[0])[:MOST_ROWS]]
