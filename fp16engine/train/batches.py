"""From data sets and callers' arrays to batches on the device, with every check before the first kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import backend as backends
from ..data import Dataset
from ..data.arrays import check_layout
from ..data.encoded import IGNORED
from ..floats import is_float, rounded
from ..tensor import Tensor
from ..validate import instance, must_be

if TYPE_CHECKING:
    from ..data import Augmentation
    from ..nn import Module
    from .state import TrainState

Array = Any


def data_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` samples in an epoch: int64 (count,), a permutation.

    Samples are sorted by raw 64-bit words of Philox(key=(seed, epoch)). NumPy guarantees those words across
    versions (its `permutation` it does not), so the order depends on nothing but the three arguments.
    """
    words = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(count)
    return np.argsort(words, kind="stable").astype(np.int64)


@dataclass(frozen=True)
class DeviceSplit:
    """One split of a data set: images (N, H, W, C) on the device in training dtype, labels on the host."""

    images: Array
    labels: np.ndarray
    device: str

    @classmethod
    def of(cls, dataset: Dataset, split: str, dtype: str, device: str) -> DeviceSplit:
        """Normalise, round once to `dtype` and move the whole split to the device."""
        labels = np.asarray(getattr(dataset, split).labels, np.int64)
        backend = backends.get(device)
        host = np.ascontiguousarray(dataset.normalised(split, dtype))
        # where the device computes on host arrays the data set's own copy serves, and memory holds it once
        on_host = type(backend.from_numpy(host[:0])) is np.ndarray
        return cls(host if on_host else backend.from_numpy(host), labels, device)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: np.ndarray) -> tuple[Array, np.ndarray]:
        """The images (on the device) and labels (on the host) of an int64 index (n,)."""
        backend = backends.get(self.device)
        return backend.gather(self.images, backend.from_numpy(index)), self.labels[index]

    def augmented(self, index: np.ndarray, epoch: int, changes: Augmenting) -> tuple[Array, np.ndarray]:
        """`batch` with the changes that each sample gets in that epoch."""
        backend = backends.get(self.device)
        where = backend.from_numpy(index)
        images = backend.augment(self.images, where, changes.seed, epoch, *changes.arguments)
        return images, self.labels[index]

    def in_order(self, batch_size: int) -> Iterator[tuple[Array, np.ndarray]]:
        """Batches in stored order; the last may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self)), dtype=np.int64))


@dataclass(frozen=True)
class Augmenting:
    """What the training images of a run go through; see `data.Augmentation`."""

    seed: int
    arguments: tuple[Any, ...]  # the last ones of Backend.augment

    @classmethod
    def of(cls, augmentation: Augmentation | None, dataset: Dataset, seed: int) -> Augmenting | None:
        """ValueError when the images are smaller than the shift."""
        if augmentation is None:
            return None
        if augmentation.shift > min(dataset.image_size):
            raise ValueError(
                f"augment: shift must be at most {min(dataset.image_size)} for {_by(dataset.image_size)} "
                f"images, got {augmentation.shift}"
            )
        return cls(seed, augmentation.arguments(dataset.mean, dataset.std))


@dataclass(frozen=True)
class ImageOrder:
    """An epoch: its number, from 0, and in which order it takes the samples."""

    epoch: int
    samples: np.ndarray


class Labelled(Protocol):
    """What `Evaluator.score` takes: batches of inputs and labels; the length is the number of labels that
    count."""

    def __len__(self) -> int: ...

    def in_order(self, batch_size: int) -> Iterator[tuple[Any, np.ndarray]]:
        """Every sample once."""


@dataclass(frozen=True)
class EveryNth:
    """The batches `first`, `first` + `step`, ... of data; its length is that of all."""

    data: Labelled
    first: int
    step: int

    def __len__(self) -> int:
        return len(self.data)

    def in_order(self, batch_size: int) -> Iterator[tuple[Any, np.ndarray]]:
        """Those batches."""
        return islice(self.data.in_order(batch_size), self.first, None, self.step)


@dataclass(frozen=True)
class ImageFeed:
    """What the epoch loop trains on and evaluates on: here, two splits on the device in batches of one size.

    Another objective brings a feed of its own: these members, with batches that it takes.
    """

    train: DeviceSplit
    test: DeviceSplit
    batch_size: int
    augmenting: Augmenting | None = None
    own: Callable[[int], np.ndarray] | None = None  # of a step's rows, those that this process takes

    unit = "img/s"

    @classmethod
    def of(
        cls,
        state: TrainState,
        dataset: Dataset,
        batch_size: int,
        own: Callable[[int], np.ndarray] | None = None,
    ) -> ImageFeed:
        """Both splits on the run's device; ValueError when the data do not fit its model."""
        check_dataset(state.model, dataset)
        train, test = (
            DeviceSplit.of(dataset, split, state.precision.storage, state.device)
            for split in ("train", "test")
        )
        return cls(train, test, batch_size, Augmenting.of(state.config.augment, dataset, state.seed), own)

    @property
    def steps(self) -> int:
        """Steps of an epoch, the same for every epoch."""
        return -(-len(self.train) // self.batch_size)

    def order(self, seed: int, epoch: int) -> ImageOrder:
        """In which order an epoch takes the samples."""
        return ImageOrder(epoch, data_order(seed, epoch, len(self.train)))

    def batch(self, order: ImageOrder, step: int) -> tuple[Array, np.ndarray]:
        """The inputs (on the device), augmented if the run says so, and labels (on the host) of a step.

        The inputs are those of this process's own micro-batches, the labels those of the whole step.
        """
        index = order.samples[step * self.batch_size : (step + 1) * self.batch_size]
        taken = index if self.own is None else index[self.own(len(index))]
        if self.augmenting is None:
            return self.train.batch(taken)[0], self.train.labels[index]
        return self.train.augmented(taken, order.epoch, self.augmenting)[0], self.train.labels[index]

    def __str__(self) -> str:
        return f"{len(self.train):,} images in batches of {self.batch_size}"


def labelled(labels: np.ndarray) -> int:
    """How many labels count: those that are no padding."""
    return int(np.count_nonzero(labels != IGNORED))


def device_images(x: Any, device: str, dtype: str) -> Array:
    """Images (N, H, W, C) from the host or the device, as an array of the device in `dtype`.

    Rounds once to `dtype`; values beyond its range become infinite. Raises TypeError for anything but
    floating-point numbers, ValueError for another number of axes, an empty batch or a tensor of another
    device.
    """
    backend = backends.get(device)
    if isinstance(x, Tensor):
        if x.device != device:
            raise ValueError(f"x must be on {device!r}, got a tensor on {x.device!r}; use .to({device!r})")
        array: Array = x.data
    elif isinstance(x, list | tuple):
        array = np.asarray(x, np.float32)
    elif hasattr(x, "shape") and hasattr(x, "dtype"):
        array = x
    else:
        raise TypeError(must_be("x", "an array of shape (N, H, W, C)", type(x)))
    name = str(array.dtype)
    if not is_float(name):
        raise TypeError(
            f"x must be floating-point images, got {name}; normalise them, as Dataset.normalised does"
        )
    if len(array.shape) != 4:
        raise ValueError(f"x must be of shape (N, H, W, C), got {tuple(array.shape)}")
    check_layout("x", array.shape)
    if array.shape[0] == 0:
        raise ValueError("x must be at least one image, got an empty batch")
    if isinstance(array, np.ndarray):
        return backend.from_numpy(np.ascontiguousarray(array if name == dtype else rounded(array, dtype)))
    return array if name == dtype else backend.cast(array, dtype)


def host_labels(y: Any, images: int) -> np.ndarray:
    """Labels (N,) as int64 on the host; TypeError unless integers, ValueError for a wrong shape or sign."""
    if isinstance(y, Tensor):
        y = y.numpy()
    elif not isinstance(y, np.ndarray) and hasattr(y, "__dlpack__"):
        y = np.from_dlpack(y)
    labels = np.asarray(y)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"y must be integer class labels, got {labels.dtype}")
    if labels.shape != (images,):
        raise ValueError(f"y must be of shape ({images},), one label for each image of x, got {labels.shape}")
    if labels.min() < 0:
        raise ValueError(f"y must be class labels >= 0, got {labels.min()}")
    return labels.astype(np.int64)


def check_dataset(model: Module, dataset: Dataset) -> None:
    """TypeError for anything but a `data.Dataset`; ValueError when its images do not fit `model.config`, what
    the model was built for."""
    instance("dataset", dataset, Dataset, "a data.Dataset")
    config = getattr(model, "config", None)
    if not isinstance(config, dict):
        return
    size = config.get("image_size")
    size = (size, size) if isinstance(size, int) else tuple(size) if size else None
    if size is not None and size != tuple(dataset.image_size):
        raise ValueError(
            f"dataset {dataset.name!r} must have {_by(size)} images as the model takes, "
            f"got {_by(dataset.image_size)}"
        )
    channels = config.get("channels")
    if channels is not None and channels != dataset.channels:
        raise ValueError(
            f"dataset {dataset.name!r} must have {channels}-channel images as the model takes, "
            f"got {dataset.channels}-channel ones"
        )
    classes = config.get("num_classes")
    if classes is not None and classes < len(dataset.classes):
        raise ValueError(
            f"dataset {dataset.name!r} must have at most {classes} classes as the model has, "
            f"got {len(dataset.classes)}"
        )


def _by(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))
