"""Evaluation and prediction under a run's precision policy, with running statistics."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from .. import backend as backends
from .. import functional as F
from ..autograd import no_grad
from ..tensor import Tensor
from . import batches
from .objective import NO_ANSWER, Objective, answered, answers, on_device
from .state import TrainState
from .views import views

BATCH = 256  # where the caller does not say


@dataclass(frozen=True)
class Evaluator:
    """Asks the model of a run, and changes nothing."""

    state: TrainState
    objective: Objective

    def score(
        self, data: batches.Labelled, batch_size: int, between: Callable[[], None] | None = None
    ) -> tuple[float, float]:
        """`Trainer.evaluate` on data on the device; `between` is called after every batch."""
        rows: list[tuple[float, ...]] = []
        for labels, given, own in self.judge(self._share(data), batch_size):
            rows.append((*_counts(given, labels), own * batches.labelled(labels)))
            if between is not None:
                between()
        correct, some, loss = self._totals(rows, 3)
        return correct / len(data) if some else math.nan, loss / len(data)

    def _share(self, data: batches.Labelled) -> batches.Labelled:
        """The batches of this process, all of them in a run of one."""
        parallel = self.state.parallel
        return data if parallel.size == 1 else batches.EveryNth(data, parallel.rank, parallel.size)

    def _totals(self, rows: list[tuple[float, ...]], width: int) -> list[float]:
        """The sums over the rows of all batches, in their order whoever had them."""
        joined = self.state.parallel.interleaved(np.reshape(np.asarray(rows, np.float64), (len(rows), width)))
        return [reduce(add, column, 0.0) for column in joined.T.tolist()]

    def judge(
        self, data: batches.Labelled, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Yield labels (N,), answers (N,) and the mean loss of every batch of data on the device."""
        with self.inference():
            for inputs, labels in data.in_order(batch_size):
                logits = self.logits(inputs)
                own = self.objective.loss(logits, on_device(labels, self.state.device), training=False)
                yield labels, answers(logits), float(own.item())

    def score_views(
        self,
        data: batches.Labelled,
        batch_size: int,
        name: str,
        between: Callable[[], None] | None = None,
    ) -> float:
        """The accuracy where the logits of several views of each image are averaged; see `views.views`.

        Every view is evaluated under the policy; the average is float64, on the host. nan where no output is
        finite.
        """
        backend = backends.get(self.state.device)
        rows: list[tuple[float, ...]] = []
        with self.inference():
            for inputs, labels in self._share(data).in_order(batch_size):
                total = np.zeros(())
                for weight, view in views(backend.to_numpy(inputs), name):
                    total = total + weight * self.logits(backend.from_numpy(view)).numpy().astype(np.float64)
                found = answered(total)
                rows.append(_counts(found, labels))
                if between is not None:
                    between()
        correct, given = self._totals(rows, 2)
        return correct / len(data) if given else math.nan

    def predict(self, images: Any, batch_size: int) -> np.ndarray:
        """See `Trainer.predict`."""
        return self.classify(images, batch_size)[1]

    def classify(self, images: Any, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """The classes (N,), int64, as `score` counts them, and the probabilities of `Trainer.predict`."""
        classes, probabilities = [], []
        for logits in self.outputs(images, batch_size):
            classes.append(answers(logits))
            probabilities.append(F.softmax(logits).numpy().astype(np.float32))
        return np.concatenate(classes), np.concatenate(probabilities)

    def outputs(self, images: Any, batch_size: int) -> Iterator[Tensor]:
        """Yield the logits of every batch of images (N, H, W, C) that the host or the device holds."""
        array = batches.device_images(images, self.state.device, self.state.precision.storage)
        backend = backends.get(self.state.device)
        with self.inference():
            for start in range(0, array.shape[0], batch_size):
                index = np.arange(start, min(start + batch_size, array.shape[0]), dtype=np.int64)
                yield self.logits(backend.gather(array, backend.from_numpy(index)))

    def logits(self, inputs: Any) -> Tensor:
        """The network's outputs for a batch; inside `inference()`, those of evaluation."""
        return self.objective.logits(self.state, inputs)

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """Evaluate the network inside a `with` block: running statistics, no tape, the policy in force."""
        model = self.state.model
        training = model.training
        model.eval()
        try:
            with no_grad(), self.state.in_force.use():
                yield
        finally:
            model.train(training)


def _counts(given: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """How many answers (N,) are the labels (N,), and how many there are at all."""
    return float(np.count_nonzero(given == labels)), float(np.count_nonzero(given != NO_ANSWER))
