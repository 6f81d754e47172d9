"""Images and labels in memory, checked once when they are made."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import DataError
from ..floats import FLOATS, numpy_dtype, rounded
from ..validate import choice, instance, integer, listed, must_be, printable
from . import arrays, stratified
from .origin import Origin

_CHUNK = 512  # images looked at in one go, so that temporaries stay small
_MANY = 20  # classes; a summary counts the images of no more


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: images and their labels. Nothing is rounded.

    Args:
        images: (N, H, W, C), uint8.
        labels: (N,), any integer dtype; kept as int64.
        names: of the images, as of their files; none, or one for each.

    Raises:
        DataError: a shape or dtype does not fit, or there are no images.

    >>> import numpy as np
    >>> from fp16engine.data import Split
    >>> len(Split(np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1])))
    2
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.dtype != np.uint8:
            raise DataError(f"images must be uint8, got {images.dtype}")
        if images.ndim != 4:
            raise DataError(f"images must be of shape (N, H, W, C), got {images.shape}")
        if images.size == 0:
            raise DataError(f"images must have at least one image and one pixel, got shape {images.shape}")
        if labels.dtype.kind not in "iu":
            raise DataError(f"labels must be integers, got {labels.dtype}")
        if labels.shape != images.shape[:1]:
            raise DataError(
                f"labels must be of shape ({len(images)},), one for each image, got {labels.shape}"
            )
        if self.names and len(self.names) != len(images):
            raise DataError(f"names must be {len(images)}, one for each image, got {len(self.names)}")
        object.__setattr__(self, "images", np.ascontiguousarray(images))
        object.__setattr__(self, "labels", np.ascontiguousarray(labels, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int | None) -> Split:
        """Return the first images, a view of these; None means all.

        Args:
            count: how many at most.

        Raises:
            DataError: count is 0.

        >>> from fp16engine.data import digits
        >>> len(digits().test.first(5))
        5
        """
        return Split(self.images[:count], self.labels[:count], self.names[:count])

    def at(self, index: np.ndarray) -> Split:
        """Return some of the images, a copy.

        Args:
            index: which ones, (M,), int64, or (N,), bool: those that are True.

        Raises:
            DataError: there are none.
            IndexError: there is no such image.

        >>> from fp16engine.data import digits
        >>> digits().test.at(np.array([3, 1])).labels.tolist() == digits().test.labels[[3, 1]].tolist()
        True
        """
        names = tuple(np.array(self.names, object)[index]) if self.names else ()
        return Split(self.images[index], self.labels[index], names)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return what the split consists of.

        Returns:
            Images (N, H, W, C), uint8, and labels (N,), int64.

        >>> from fp16engine.data import digits
        >>> [a.shape for a in digits().test.arrays()]
        [(360, 8, 8, 1), (360,)]
        """
        return self.images, self.labels


def check_labels(labels: np.ndarray, classes: int, where: str) -> None:
    """Require labels in 0 .. classes - 1.

    Args:
        labels: (N,), integers.
        classes: number of classes.
        where: what the message calls the labels.

    Raises:
        DataError: a label is outside; the message names `where` and the first such label.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        first = int(wrong[0])
        raise DataError(
            f"{where} must hold labels from 0 to {classes - 1}, got {labels[first]} at index {first}"
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split of images of one size, with the names of the classes.

    Args:
        name: what reports call the data.
        train: the training split, images (N, H, W, C) uint8.
        test: the test split, images of the same H, W, C.
        classes: one name for each label value 0 .. K-1.
        origin: where the images came from; None says nothing.
        notes: what was done to them, in sentences.
        moments: the mean and std that normalise them; None means those of the training images.

    Raises:
        DataError: the splits differ in image shape, a label has no class, or there are no classes.

    >>> import numpy as np
    >>> from fp16engine.data import Dataset, Split
    >>> split = Split(np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1), np.array([0, 1]))
    >>> Dataset("mine", split, split, ("cat", "dog")).mean
    3.5
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    origin: Origin | None = None
    notes: tuple[str, ...] = ()
    moments: tuple[float, float] | None = None
    _cache: dict[tuple[str, str], np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        instance("name", self.name, str, "text")
        classes = listed("classes", self.classes, "a sequence of names")
        object.__setattr__(self, "classes", tuple(str(name) for name in classes))
        if not self.classes:
            raise DataError("classes must be at least one name, got none")
        for part, split in (("train", self.train), ("test", self.test)):
            if not isinstance(split, Split):
                raise DataError(must_be(part, "a Split", type(split)))
            check_labels(split.labels, len(self.classes), f"{self.name}: {part}")
        train, test = self.train.images.shape[1:], self.test.images.shape[1:]
        if train != test:
            raise DataError(
                f"{self.name}: test images must be of shape {train} as the training images are, got {test}"
            )

    def __repr__(self) -> str:
        height, width = self.image_size
        return (
            f"Dataset({self.name!r}, {len(self.train)} training and {len(self.test)} test images "
            f"of {height}x{width}x{self.channels}, {len(self.classes)} classes)"
        )

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any,
        classes: Sequence[str] | None = None,
        test: float | tuple[Any, Any] = stratified.SHARE,
        name: str = "arrays",
        seed: int = 0,
    ) -> Dataset:
        """Return a data set of images and labels in memory.

        Args:
            x: images (N, H, W) or (N, H, W, C): uint8, other integers from 0 to 255, or floats from 0 to 1,
                which are rounded once to 255 steps. An array, a tensor of PyTorch, or nested lists.
            y: labels (N,), integers from 0, or names of classes.
            classes: one name for each label value; None means the numbers, or the sorted names in y.
            test: the share of every class that is drawn for the test part, or that part: (x, y).
            name: what reports call the data.
            seed: of the draw.

        Raises:
            DataError: a shape or a value does not fit, or there is one class only; images with their channels
                first are named as such.
            ValueError: test or seed is out of range.
            TypeError: test, name or seed is of the wrong kind.

        >>> import numpy as np
        >>> images = np.arange(10 * 8 * 8).astype(np.uint8).reshape(10, 8, 8)
        >>> Dataset.from_arrays(images, [0, 1] * 5)
        Dataset('arrays', 8 training and 2 test images of 8x8x1, 2 classes)
        """
        images = arrays.pixels("x", x)
        labels, names = arrays.labels("y", y, classes)
        if len(labels) != len(images):
            raise DataError(f"y must hold {len(images)} labels, one for each image of x, got {len(labels)}")
        check_labels(labels, len(names), "y")
        absent = arrays.check_present("y", labels, names)
        if absent is not None and classes is None:  # who names classes knows that they are there
            warnings.warn(
                f"{absent}; labels count from 0, and classes=... names what they mean", stacklevel=2
            )
        if isinstance(test, tuple | list):
            if len(test) != 2:
                raise TypeError(must_be("test", "a share or a pair of images and labels", test))
            tested = Split(arrays.pixels("test[0]", test[0]), arrays.labels("test[1]", test[1], names)[0])
            return cls(name, Split(images, labels), tested, names, Origin("arrays"))
        drawn = stratified.drawn(labels, test, seed)
        if not len(drawn[1]):
            raise DataError(
                "x must hold 2 or more images of a class, of which a test part is drawn, got 1 of each; or "
                "give the test part: test=(x, y)"
            )
        train, tested = (Split(images, labels).at(index) for index in drawn)
        return cls(name, train, tested, names, Origin("arrays"), (stratified.note(test, seed),))

    def summary(self) -> str:
        """Return how many images of what size there are, how many of each class, and what was done to them.

        >>> from fp16engine.data import digits
        >>> print(digits().summary()[:105] + ", ...")
        digits: 1,437 training and 360 test images of 8x8x1, 10 classes
          training + test: 0 142 + 36, 1 146 + 36, ...
        """
        height, width = self.image_size
        lines = [
            f"{printable(self.name)}: {len(self.train):,} training and {len(self.test):,} test images of "
            f"{height}x{width}x{self.channels}, {len(self.classes)} classes"
        ]
        count = len(self.classes)
        parts = [np.bincount(part.labels, minlength=count) for part in (self.train, self.test)]
        names = [printable(label) for label in self.classes]
        each = [f"{label} {a:,} + {b:,}" for label, a, b in zip(names, *parts, strict=True)]
        lines.append(f"training + test: {listed_names(each)}")
        for part, counts in zip(("training", "test"), parts, strict=True):
            if missing := [label for label, images in zip(names, counts, strict=True) if images == 0]:
                lines.append(f"no {part} images of {listed_names(missing)}")
        return "\n  ".join([*lines, *self.notes])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of every image, in pixels."""
        height, width = self.train.images.shape[1:3]
        return int(height), int(width)

    @property
    def channels(self) -> int:
        """Channels of every image: 1 for gray, 3 for colour."""
        return int(self.train.images.shape[3])

    @cached_property
    def _moments(self) -> tuple[float, float]:
        images = self.train.images
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), _CHUNK):
            counts += np.bincount(images[start : start + _CHUNK].reshape(-1), minlength=256)
        # Sums of integers are exact, so mean and standard deviation carry no summation error.
        number = images.size
        total = sum(value * int(count) for value, count in enumerate(counts))
        squares = sum(value * value * int(count) for value, count in enumerate(counts))
        return total / number, math.sqrt((number * squares - total * total) / number**2)

    @property
    def mean(self) -> float:
        """Mean over all pixels and channels of the training images, in pixel values (0 .. 255)."""
        return (self.moments or self._moments)[0]

    @property
    def std(self) -> float:
        """Population standard deviation that goes with `mean`, in pixel values (0 .. 255)."""
        return (self.moments or self._moments)[1]

    def normalised(self, split: str, dtype: str) -> np.ndarray:
        """Return the images of a split with mean 0 and standard deviation 1, as of the training images.

            y = (x - mean) / std, one mean and one std of all pixels and channels

        Args:
            split: "train" or "test".
            dtype: "float16", "bfloat16", "float32" or "float64".

        Returns:
            (N, H, W, C), `dtype`, computed in float64 and rounded once. The array is kept, so later calls
            return the same one: treat it as read-only.

        Raises:
            ValueError: an unknown split or dtype.
            DataError: all training pixels have the same value, so std is 0.

        Source:
            arXiv 2305.10947 (one global mean and std).

        >>> from fp16engine.data import digits
        >>> x = digits().normalised("test", "float16")
        >>> x.shape, x.dtype
        ((360, 8, 8, 1), dtype('float16'))
        """
        choice("split", split, ("train", "test"))
        choice("dtype", dtype, FLOATS)
        if (split, dtype) not in self._cache:
            self._cache[split, dtype] = self._normalise(split, dtype)
        return self._cache[split, dtype]

    def _normalise(self, split: str, dtype: str) -> np.ndarray:
        if self.std == 0.0:
            raise DataError(
                f"{self.name}: training pixels must have more than one value, got {self.mean:g} only"
            )
        images = self.train.images if split == "train" else self.test.images
        return normalise(images, self.mean, self.std, dtype)

    def limit(self, n: int) -> Dataset:
        """Return a data set of the first images of both splits, labels kept.

        Args:
            n: images of each split, >= 1; a shorter split is kept whole. Mean and std are those of the
                shorter training split.

        Raises:
            TypeError: n is no integer.
            ValueError: n is less than 1.

        >>> from fp16engine.data import digits
        >>> len(digits().limit(100).train)
        100
        """
        integer("limit", n, 1)
        return replace(self, train=self.train.first(n), test=self.test.first(n))


def normalise(images: np.ndarray, mean: float, std: float, dtype: str) -> np.ndarray:
    """Return (images - mean) / std, computed in float64, rounded once to `dtype`; images: uint8, any shape.

    >>> normalise(np.array([3, 5], np.uint8), 4.0, 2.0, "float16")
    array([-0.5,  0.5], dtype=float16)
    """
    # A pixel has 256 values, so every result is looked up in a table of 256 entries.
    table = rounded((np.arange(256) - mean) / std, dtype)
    result = np.empty(images.shape, numpy_dtype(dtype))
    for start in range(0, len(images), _CHUNK):
        result[start : start + _CHUNK] = table[images[start : start + _CHUNK]]
    return result


def listed_names(names: Sequence[str]) -> str:
    """Return names as a sentence lists them, of many the first.

    >>> listed_names(["cat", "dog"])
    'cat, dog'
    """
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more
