"""A test part drawn from one set of samples, the same share of every class."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..validate import integer, number

SHARE = 0.2  # of the samples that are tested on where nobody says
_DRAWN = ", drawn with seed "


def drawn(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of training and of test samples, ascending, int64.

    Of a class with n >= 2 samples, `share` of them are drawn, rounded, at least one and at most n - 1; a
    single one is trained on. A class's samples are sorted by the raw words of Philox(key=(seed, class)),
    which NumPy guarantees across versions.

    Raises:
        TypeError, ValueError: `share` is no number between 0 and 1, or `seed` no integer >= 0.

    >>> train, test = drawn(np.array([0, 0, 0, 0, 1, 1]), 0.25, seed=0)
    >>> len(train), len(test)
    (4, 2)
    """
    number("test_share", share, above=0, below=1)
    integer("seed", seed, 0, 2**64 - 1)
    tested = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        count = min(max(round(share * len(own)), 1), len(own) - 1)
        words = np.random.Philox(key=np.array([seed, label], np.uint64)).random_raw(len(own))
        tested[own[np.argsort(words, kind="stable")[:count]]] = True
    return np.flatnonzero(~tested), np.flatnonzero(tested)


def note(share: float, seed: int, of: str = "every class") -> str:
    """Return what a data set says of its draw, in one sentence."""
    return f"{share:g} of {of}{_DRAWN}{seed}, is the test part."


def is_noted(notes: Iterable[str]) -> bool:
    """Tell by a data set's notes whether its test part is drawn.

    >>> is_noted([note(0.2, 0)]), is_noted([])
    (True, False)
    """
    return any(_DRAWN in text for text in notes)
