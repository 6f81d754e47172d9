"""`load` a run, then `predict` new images, or `evaluate` on a data set."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Dataset, image_files
from ..data.dataset import normalise
from ..data.digits import digits
from ..errors import CheckpointError, DataError
from ..models import transformer
from ..numerics.confusion import accuracies, confusion_matrix
from ..train import Checkpoint, Trainer
from ..train.batches import DeviceSplit, check_dataset
from ..train.checkpoint import FILE_NAME as CHECKPOINT
from ..train.loop import data_fingerprint
from ..train.objective import NO_ANSWER
from ..train.refinements import VIEWS
from ..train.source import ImageSource
from ..validate import choice, integer, must_be
from ..validate import path as checked_path
from .inputs import BATCH, prepared

if TYPE_CHECKING:
    from ..nn import Module
    from ..precision import Precision

_COMPARISON = "compare.json"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network says of N images.

    Args:
        labels: (N,), int64: the label of each image's class, -1 where no output is finite.
        classes: N names: the class of each image, "" where no output is finite.
        probabilities: (N, K), float32, of the K classes.
        names: of the images: their paths, or where in the argument they were.
        skipped: why files of a folder were not used, by path.

    >>> Predictions(np.array([1]), ("dog",), np.array([[0.25, 0.75]], np.float32), ("x.png",)).classes[0]
    'dog'
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    probabilities: np.ndarray
    names: tuple[str, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a network does on a test set.

    Args:
        accuracy: share of right answers, nan where no output is finite.
        loss: mean cross-entropy.
        classes: K names.
        counts: (K,), int64: test images of each class.
        confusion: (K, K), int64: images of the class of the row that were taken for that of the column.

    >>> Evaluation(0.5, 1.0, ("a", "b"), np.array([1, 1]), np.array([[1, 0], [1, 0]])).per_class()
    [('a', 1, 1.0), ('b', 1, 0.0)]
    """

    accuracy: float
    loss: float
    classes: tuple[str, ...]
    counts: np.ndarray
    confusion: np.ndarray

    def per_class(self) -> list[tuple[str, int, float | None]]:
        """Return name, test images and accuracy of every class; None for one without images.

        >>> empty = np.zeros((1, 1), np.int64)
        >>> Evaluation(0.0, 1.0, ("a",), empty[0], empty).per_class()
        [('a', 0, None)]
        """
        shares = accuracies(self.confusion, self.counts)
        return list(zip(self.classes, self.counts.tolist(), shares, strict=True))


class Predictor:
    """A trained network with what it needs to be used: see `load`.

    Args:
        checkpoint: of a run.
        source: the images that it was trained on.
        device: "cpu", "cuda", "cuda:1" or "reference".
        model: the network, if the checkpoint does not say how to build it.

    Attributes:
        classes: the names of the classes, in the order of the labels.
        image_size: (height, width) of the images that the network takes.
        model: the network, with the weights of the run.
        precision: the policy that it was trained under, and predicts under.
        device: where it is.
        source: the images that it was trained on.

    Raises:
        CheckpointError: the network cannot be built, or is another one.
        BackendUnavailable: the device is not there.

    >>> import tempfile
    >>> import fp16engine as fe
    >>> data, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fe.Trainer(model).fit(data, epochs=1, batch_size=16, out=folder, progress=False)
    ...     predictor = fe.load(folder)
    >>> predictor.image_size, predictor.precision.name
    ((8, 8), 'fp16')
    """

    def __init__(
        self, checkpoint: Checkpoint, source: ImageSource, device: str = "cpu", model: Module | None = None
    ) -> None:
        if model is None:
            model = checkpoint.create_model(device)
        else:
            checkpoint.load_model(model, device)
        self._trainer = Trainer(model, precision=checkpoint.precision, device=device)
        epochs = checkpoint.settings.get("epochs")
        if isinstance(epochs, int) and 0 < checkpoint.epoch <= epochs:  # of a plan, what its last epoch had
            self._trainer.begin_epoch(checkpoint.epoch - 1, epochs)
        self.device, self.source = device, source
        self.classes, self.image_size = source.classes, source.image_size
        self.model: Module = self._trainer.model
        self.precision: Precision = checkpoint.precision

    def predict(self, x: Any) -> Predictions:
        """Return the classes of new images, and their probabilities.

        Args:
            x: a path of an image or of a folder (with its folders), a PIL image, pixels (H, W), (H, W, C) or
                (N, H, W, C), uint8, or a list of these. Images of another size are resized and cropped as
                `image_folder` does, gray ones and colours turned into what the network takes; all are
                normalised as in training. A file of a folder that cannot be used is skipped, and a warning
                and the result's `skipped` say why.

        Raises:
            TypeError: x is of another kind, or its pixels are not uint8.
            DataError: a file that x names is no image, a folder has none that can be used, or an array has a
                wrong shape, as one with its channels first.
            FileNotFoundError: there is no such file.

        >>> import tempfile
        >>> import fp16engine as fe
        >>> data, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = fe.Trainer(model).fit(data, epochs=1, batch_size=16, out=folder, progress=False)
        ...     found = fe.load(folder).predict(data.test.images)
        >>> len(found), found.probabilities.shape, found.classes[0] == str(found.labels[0])
        (32, (32, 10), True)
        """
        names: list[str] = []
        skipped: dict[str, str] = {}
        labels, probabilities = [], []
        for own, pixels in prepared(x, self.source, skipped):
            images = normalise(pixels, self.source.mean, self.source.std, self.precision.storage)
            given, shares = self._trainer.evaluator.classify(images, BATCH)
            names += own
            labels.append(np.where(given == NO_ANSWER, -1, given))
            probabilities.append(shares)
        if not names:
            raise DataError("x must hold at least one image, got none")
        all_labels = np.concatenate(labels)
        classes = tuple(self._name(int(label)) for label in all_labels)
        if skipped:
            warnings.warn(image_files.skipped(skipped), stacklevel=2)
        return Predictions(all_labels, classes, np.concatenate(probabilities), tuple(names), skipped)

    def outputs(self, images: np.ndarray) -> np.ndarray:
        """Return the logits of images that are normalised as in training.

        Args:
            images: (N, H, W, C), float16 or float32 as the run stores it, bfloat16 under its policies.

        Returns:
            (N, K) for K classes, float16, float32 or bfloat16 as the images.

        Raises:
            ValueError: the images are of another shape or dtype.

        >>> import tempfile
        >>> import fp16engine as fe
        >>> data, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = fe.Trainer(model).fit(data, epochs=1, batch_size=16, out=folder, progress=False)
        ...     fe.load(folder).outputs(data.normalised("test", "float16")).shape
        (32, 10)
        """
        return np.concatenate([y.numpy() for y in self._trainer.evaluator.outputs(images, BATCH)])

    def _name(self, label: int) -> str:
        """Return a class's name; a network may have more outputs than there are classes."""
        return "" if label < 0 else self.classes[label] if label < len(self.classes) else str(label)

    def evaluate(self, dataset: Dataset, batch_size: int = BATCH) -> Evaluation:
        """Return how the network does on the test images of a data set, normalised as in training.

        Args:
            dataset: with the same classes.
            batch_size: images at a time, >= 1.

        Raises:
            DataError: it has other classes.
            ValueError: its images do not fit the network, or batch_size is out of range.
            TypeError: dataset is no data set, or batch_size no integer.

        >>> import tempfile
        >>> import fp16engine as fe
        >>> data, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = fe.Trainer(model).fit(data, epochs=1, batch_size=16, out=folder, progress=False)
        ...     result = fe.load(folder).evaluate(data)
        >>> int(result.confusion.sum()) == 32 and result.confusion.shape == (10, 10)
        True
        """
        data = self._test(dataset, batch_size)
        judged = list(self._trainer.evaluator.judge(data, batch_size))
        labels, given = (np.concatenate(part) for part in list(zip(*judged, strict=True))[:2])
        loss = sum(own * len(of_batch) for of_batch, _, own in judged) / len(labels)
        count = len(self.classes)
        confusion = confusion_matrix(labels, given, count)
        accuracy = float(np.mean(given == labels)) if (given != NO_ANSWER).any() else math.nan
        return Evaluation(accuracy, loss, self.classes, np.bincount(labels, minlength=count), confusion)

    def evaluate_views(self, dataset: Dataset, views: str, batch_size: int = BATCH) -> float:
        """Return the accuracy of `evaluate` with the logits of several views of each image averaged.

        Args:
            dataset: with the same classes.
            views: "none", "mirror" or "mirror-shift"; see `train.Refinements`.
            batch_size: images at a time, >= 1.

        Raises:
            DataError: it has other classes.
            ValueError: its images do not fit the network, or another argument is out of range.
            TypeError: dataset is no data set, or batch_size no integer.

        >>> import tempfile
        >>> import fp16engine as fe
        >>> data, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = fe.Trainer(model).fit(data, epochs=1, batch_size=16, out=folder, progress=False)
        ...     0 <= fe.load(folder).evaluate_views(data, "mirror") <= 1
        True
        """
        choice("views", views, VIEWS)
        return self._trainer.evaluator.score_views(self._test(dataset, batch_size), batch_size, views)

    def _test(self, dataset: Dataset, batch_size: int) -> DeviceSplit:
        """The checked test images on the device, normalised as in training."""
        integer("batch_size", batch_size, 1)
        check_dataset(self.model, dataset)
        if dataset.classes != self.classes:
            raise DataError(
                f"{dataset.name} must have the classes that the run was trained on, {_few(self.classes)}, "
                f"got {_few(dataset.classes)}"
            )
        dataset = replace(dataset, moments=(self.source.mean, self.source.std))
        return DeviceSplit.of(dataset, "test", self.precision.storage, self._trainer.device)


def load(
    run: str | os.PathLike[str],
    device: str | None = None,
    *,
    model: Module | None = None,
    data: Dataset | None = None,
) -> Predictor:
    """Return the network of a run, ready for new images.

    Args:
        run: its folder, or its checkpoint.json.
        device: "cpu", "cuda", "cuda:1" or "reference"; None means "cpu".
        model: the network, where it was built by hand and not by `models.create`.
        data: the data set that it was trained on; only for runs from before checkpoints kept its classes and
            its normalisation. For the digits of this package it is not needed.

    Raises:
        CheckpointError: there is no checkpoint, a part of it is missing, damaged or altered, or it does not
            say what it was trained on.
        BackendUnavailable: the device is not there.

    >>> load("no/such/folder")
    Traceback (most recent call last):
    fp16engine.errors.CheckpointError: no/such/folder must hold a checkpoint, got no checkpoint.json there
    """
    checkpoint = checkpoint_of(run)
    return Predictor(checkpoint, source_of(checkpoint, data), "cpu" if device is None else device, model)


def checkpoint_of(run: str | os.PathLike[str]) -> Checkpoint:
    """Return the checkpoint of a run; CheckpointError names the runs where it is a comparison."""
    folder = checked_path("the run's folder", run)
    if (folder / _COMPARISON).exists() and not (folder / CHECKPOINT).exists():
        runs = sorted(path.parent.name for path in folder.glob(f"*/{CHECKPOINT}"))
        hint = f"; name one, as {folder / runs[0]}" if runs else ""
        raise CheckpointError(
            f"{folder} must be one run, got a comparison of {', '.join(runs) or 'none'}{hint}"
        )
    return Checkpoint.load(folder)


def source_of(checkpoint: Checkpoint, data: Dataset | None = None) -> ImageSource:
    """Return what a run was trained on, of an old checkpoint from its data set; CheckpointError without."""
    if checkpoint.images is not None:
        return checkpoint.images
    network = (checkpoint.model_config or {}).get("name")
    if network in transformer.names():
        raise CheckpointError(
            f"{checkpoint.path} must hold a network of images, got {network}; translate runs it"
        )
    name, count = trained_on(checkpoint)
    if data is None and name == "digits":
        data = digits()
    if data is None:
        raise CheckpointError(
            f"{checkpoint.path} must hold classes and normalisation of its images, got one of an earlier "
            f"version without; give its data set {name!r} (in Python: data=...; --data and --data-dir)"
        )
    source = ImageSource.of(first_images(data, count) if data.name == name else data)
    assert source is not None
    return source


def trained_on(checkpoint: Checkpoint) -> tuple[str, int]:
    """Return the name of the data set that a checkpoint was trained on, and how many images of it."""
    data = checkpoint.settings.get("data")
    try:
        if not isinstance(data, dict) or not isinstance(data.get("name"), str):
            raise ValueError(must_be("run: data", "a table with a name", data))
        return data["name"], integer("run: data: train", data.get("train"), 1)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path} is damaged: {error}") from error


def is_of(checkpoint: Checkpoint, dataset: Dataset) -> bool:
    """Tell whether a run was trained on a data set, or on its first images; True where it does not say."""
    trained = checkpoint.settings.get("data_sha256")
    if trained is None:
        return True
    _, count = trained_on(checkpoint)
    try:
        tested = integer("run: data: test", checkpoint.settings["data"].get("test"), 1)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path} is damaged: {error}") from error
    part = replace(first_images(dataset, count), test=dataset.test.first(tested))
    return data_fingerprint(part) == trained


def first_images(dataset: Dataset, count: int) -> Dataset:
    """Return a data set of the first training images and all test images."""
    return replace(dataset, train=dataset.train.first(count))


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
