"""How compared networks do on each class, what they take for what, and the images on which two disagree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..numerics.confusion import accuracies, confusion_matrix
from ..numerics.tolerance import delta
from .comparison import reference

Points = Mapping[str, NDArray[np.float32]]  # probabilities (N, classes) of the test images, by precision
MOST_IMAGES = 24  # on which two networks disagree, in summary.json and in the report
_MOST_CLASSES = 100  # of a confusion matrix in summary.json


def given(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the class (N,) of the largest probability, -1 where one is not finite.

    >>> given(np.array([[0.25, 0.75], [np.nan, 0.5]], np.float32))
    array([ 1, -1])
    """
    return np.where(np.isfinite(probabilities).all(axis=1), probabilities.argmax(axis=1), -1)


def per_class(points: Points, dataset: Dataset) -> dict[str, Any]:
    """Return names and test images of the classes, and by precision accuracies and the confusion matrix.

    Row i, column j of a matrix: test images of class i that were taken for class j; None for many classes.
    """
    labels, count = dataset.test.labels, len(dataset.classes)
    images = np.bincount(labels, minlength=count)
    result: dict[str, Any] = {
        "names": list(dataset.classes),
        "test_images": images.tolist(),
        "accuracy": {},
        "confusion": {} if count <= _MOST_CLASSES else None,
    }
    for name, p in points.items():
        matrix = confusion_matrix(labels, given(p), count)
        result["accuracy"][name] = accuracies(matrix, images)
        if result["confusion"] is not None:
            result["confusion"][name] = matrix.tolist()
    return result


def disagreements(points: Points, dataset: Dataset) -> list[dict[str, Any]]:
    """Return how many test images each precision classifies differently from the reference, and which.

    Those that are furthest apart (the largest delta) come first, `MOST_IMAGES` at most.
    """
    base = reference(points)
    if base not in points:
        return []
    p, first = points[base], given(points[base])
    result = []
    for name, q in points.items():
        if name == base:
            continue
        other = given(q)
        apart = np.nan_to_num(delta(p, q), nan=np.inf)
        where = np.flatnonzero(first != other)
        where = where[np.argsort(-apart[where], kind="stable")]
        shown = where[:MOST_IMAGES].tolist()
        images = [_image(i, dataset, (p[i], first[i]), (q[i], other[i])) for i in shown]
        result.append({"reference": base, "other": name, "count": len(where), "images": images})
    return result


def _image(
    index: int, dataset: Dataset, one: tuple[NDArray[Any], Any], two: tuple[NDArray[Any], Any]
) -> dict[str, Any]:
    names = dataset.test.names
    return {
        "index": index,
        "name": names[index] if names else None,
        "class": dataset.classes[dataset.test.labels[index]],
        "reference": _answer(dataset, *one),
        "other": _answer(dataset, *two),
    }


def _answer(dataset: Dataset, probabilities: NDArray[Any], label: Any) -> dict[str, Any]:
    if label < 0:
        return {"class": None, "probability": None}
    name = dataset.classes[label] if label < len(dataset.classes) else str(label)
    return {"class": name, "probability": float(probabilities[label])}
