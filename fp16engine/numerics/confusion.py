"""Which class is taken for which: the matrix, each class's accuracy, and what of many classes is shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_ROWS = 20  # rows of a table of classes or of confusions
WIDEST = 12  # classes of a matrix that is shown whole


def confusion_matrix(labels: NDArray[np.int64], given: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the counts (classes, classes): of the samples of class i (row) those taken for class j (column).

    labels, given: (N,); a sample whose given class is none of the classes is not counted.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, -1]), 2).tolist()
    [[1, 1], [0, 0]]
    """
    named = (given >= 0) & (given < classes)
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels[named], given[named]), 1)
    return matrix


def accuracies(matrix: NDArray[np.int64], counts: NDArray[np.int64]) -> list[float | None]:
    """Return each class's share of right answers; None for a class without samples.

    >>> accuracies(np.array([[1, 1], [0, 0]]), np.array([2, 0]))
    [0.5, None]
    """
    return [int(right) / int(n) if n else None for right, n in zip(matrix.diagonal(), counts, strict=True)]


def lowest(shares: Sequence[float | None]) -> list[int]:
    """Return the classes that a table shows: all of few, in their order; of many the least accurate first.

    >>> lowest([0.5, 0.25]), lowest([1.0] * 20 + [None, 0.5])[:2]
    ([0, 1], [21, 0])
    """
    order = list(range(len(shares)))
    if len(order) <= MOST_ROWS:
        return order
    known = [2.0 if share is None else share for share in shares]
    return sorted(order, key=known.__getitem__)[:MOST_ROWS]


def most_frequent(matrix: NDArray[np.int64], names: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return the most frequent confusions: class, what it was taken for, how often.

    >>> most_frequent(np.array([[3, 1], [0, 4]]), ["cat", "dog"])
    [('cat', 'dog', 1)]
    """
    off = matrix * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-off, axis=None, kind="stable")[:MOST_ROWS]
    pairs = [divmod(int(at), len(names)) for at in order]
    return [(names[i], names[j], int(off[i, j])) for i, j in pairs if off[i, j]]
