"""Evaluation and prediction under a trainer's precision policy, with running statistics."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .. import functional as F
from ..autograd import no_grad
from . import batches
from .task import Task, judged

if TYPE_CHECKING:
    from ..data import Dataset


class Scoring(Task):
    """The part of `Trainer` that asks its model and changes nothing."""

    def evaluate(self, dataset: Dataset, batch_size: int = 256) -> tuple[float, float]:
        """(accuracy, mean cross-entropy) on dataset.test, with running statistics; accuracy in 0..1.

        An output that is not finite is a wrong answer; where none is finite the accuracy is nan. Each batch's
        loss is rounded to the storage dtype; the mean over batches is float64 on the host.
        """
        batches.count("batch_size", batch_size, 1)
        batches.check_dataset(self.model, dataset)
        return self.score(
            batches.DeviceSplit.of(dataset, "test", self.precision.storage, self.device), batch_size
        )

    def score(
        self, data: batches.Labelled, batch_size: int, between: Callable[[], None] | None = None
    ) -> tuple[float, float]:
        """`evaluate` on data that are on the device already; `between` is called after every batch."""
        correct, answered, loss = 0, 0, 0.0
        with self._inference():
            for images, labels in data.in_order(batch_size):
                logits = self._logits(images)
                right, given = judged(logits, labels)
                correct, answered = correct + right, answered + given
                loss += float(self._loss(logits, labels, training=False).item()) * batches.labelled(labels)
                if between is not None:
                    between()
        return correct / len(data) if answered else math.nan, loss / len(data)

    def predict(self, images: Any, batch_size: int = 256) -> np.ndarray:
        """Class probabilities of images (N, H, W, C), floating point: float32 (N, classes) on the host.

        Images are rounded once to the storage dtype and the softmax rounds once to it.
        """
        batches.count("batch_size", batch_size, 1)
        array = batches.device_images(images, self.device, self.precision.storage)
        backend = backends.get(self.device)
        parts = []
        with self._inference():
            for start in range(0, array.shape[0], batch_size):
                index = np.arange(start, min(start + batch_size, array.shape[0]), dtype=np.int64)
                logits = self._logits(backend.gather(array, backend.from_numpy(index)))
                parts.append(F.softmax(logits).numpy().astype(np.float32))
        return np.concatenate(parts)

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            with no_grad(), self.in_force.use():
                yield
        finally:
            self.model.train(training)
