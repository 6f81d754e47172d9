"""Test images in a page, and the tables of classes that it shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...numerics.confusion import lowest, most_frequent

if TYPE_CHECKING:
    from ...data import Dataset

_LARGEST = 160  # pixels of a side; the page shows no image larger


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
    by_precision = classes["accuracy"]
    first = precision if precision in by_precision else next(iter(by_precision), "")
    shown = lowest(by_precision.get(first, [None] * len(classes["names"])))
    return [
        {
            "name": classes["names"][i],
            "test_images": classes["test_images"][i],
            "accuracy": {key: values[i] for key, values in by_precision.items()},
        }
        for i in shown
    ]


def confusions(matrix: list[list[int]], names: list[str]) -> list[tuple[str, str, int]]:
    """Return the most frequent confusions of a matrix as summary.json holds it."""
    return most_frequent(np.array(matrix), names)
