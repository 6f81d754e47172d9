"""Images of the sizes of published data sets, for estimates where the data sets are not there."""

from __future__ import annotations

import numpy as np

from ..data import Dataset, Split

# Training and test images, pixels of a side, channels, classes.
_SIZES = {
    "mnist": (60_000, 10_000, 28, 1, 10),
    "fashion_mnist": (60_000, 10_000, 28, 1, 10),
    "cifar10": (50_000, 10_000, 32, 3, 10),
    "cifar100": (50_000, 10_000, 32, 3, 100),
}


def names() -> tuple[str, ...]:
    """Return the names of the data sets that `of_size` knows the sizes of."""
    return tuple(_SIZES)


def of_size(name: str, limit: int | None = None, test_limit: int | None = None) -> Dataset:
    """Return random images as many and as large as those of a published data set.

    Args:
        name: one of `names()`.
        limit: training images at most; None means all.
        test_limit: test images at most; None means all.

    >>> of_size("mnist", 32, 16)
    Dataset('mnist', 32 training and 16 test images of 28x28x1, 10 classes)
    """
    train, test, side, channels, classes = _SIZES[name]
    rng = np.random.default_rng(0)

    def split(count: int, most: int | None) -> Split:
        count = count if most is None else min(count, most)
        images = rng.integers(0, 256, (count, side, side, channels), np.uint8)
        return Split(images, rng.integers(0, classes, count))

    return Dataset(name, split(train, limit), split(test, test_limit), tuple(map(str, range(classes))))
