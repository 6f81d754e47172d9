"""What a network is trained for: how batches are made and read, and how its outputs are judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .. import functional as F
from ..data.collect import collected
from ..tensor import Tensor
from . import batches
from .functions import Loss, loss_of

if TYPE_CHECKING:
    from .config import TrainConfig
    from .state import TrainState

Array = Any
NO_ANSWER = -2  # no class, and no label that is padding


@dataclass(frozen=True)
class Part:
    """A micro-batch of a step: inputs on the device, labels on the host.

    index: which one it is, from 0; share: its share of the step's labels; weight: that share times the number
    of micro-batches, 1 where all have the same size.
    """

    inputs: Any
    labels: np.ndarray
    index: int = 0
    share: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True)
class Objective:
    """Image classification by cross-entropy; another objective overrides what differs.

    `label_smoothing` is the share of a label spread over all classes, in training alone; `own` is a loss in
    place of cross-entropy, or None.
    """

    label_smoothing: float = 0.0
    own: Loss | None = None

    @classmethod
    def of(cls, config: TrainConfig) -> Objective:
        """The objective that a config says."""
        return cls(config.label_smoothing, config.loss if callable(config.loss) else None)

    def corpus(self, dataset: Any) -> Any:
        """The data set that `fit` works on, of what its caller gave; see `data.collect`."""
        return collected(dataset)

    def feed(self, state: TrainState, dataset: Any, batch_size: int) -> Any:
        """The batches that `fit` trains on and evaluates on; see `batches.ImageFeed`."""
        own = None if state.parallel.size == 1 else partial(own_rows, state)
        return batches.ImageFeed.of(state, dataset, batch_size, own)

    def float_arrays(self, inputs: Any) -> list[Array]:
        """What of a batch's inputs may hold values that are not finite."""
        return [inputs]

    def logits(self, state: TrainState, inputs: Any) -> Tensor:
        """The network's outputs (N, classes) for a batch of images on the device."""
        logits: Tensor = state.model(Tensor(inputs, state.device))
        if logits.ndim != 2 or logits.shape[0] != inputs.shape[0]:
            raise ValueError(
                f"model must give an output of shape ({inputs.shape[0]}, classes) for images of shape "
                f"{tuple(inputs.shape)}, got {logits.shape}"
            )
        return logits

    def loss(self, logits: Tensor, labels: Tensor, training: bool = True) -> Tensor:
        """The mean cross-entropy of a batch, or its own loss; labels: (N,) int64 on the device."""
        if self.own is not None:
            return loss_of(self.own, logits, labels)
        smoothing = self.label_smoothing if training else 0.0
        return F.cross_entropy(logits, labels, batches.IGNORED, smoothing)

    def parts(self, state: TrainState, inputs: Any, labels: np.ndarray) -> Sequence[Part]:
        """The micro-batches of a step that this process takes: all of them, or its share of the ranks'.

        inputs: of those micro-batches; labels: of the whole step.
        """
        count = len(labels)
        every = cuts(count, state.config.accumulate)
        backend, parts, start = backends.get(state.device), [], 0
        for index in state.parallel.own(len(every)):
            cut = every[index]
            if len(every) == 1:
                taken = inputs
            else:
                rows = np.arange(start, start + len(cut), dtype=np.int64)
                taken = backend.gather(inputs, backend.from_numpy(rows))
            start += len(cut)
            share, weight = len(cut) / count, len(cut) * len(every) / count
            parts.append(Part(taken, labels[cut], index, share, weight))
        return parts


def cuts(count: int, parts: int) -> list[np.ndarray]:
    """The rows of a batch of `count` samples in `parts` micro-batches, or fewer; the last may be smaller.

    >>> [len(rows) for rows in cuts(10, 4)]
    [3, 3, 3, 1]
    """
    size = -(-count // parts)
    return [np.arange(i, min(i + size, count), dtype=np.int64) for i in range(0, count, size)]


def own_rows(state: TrainState, count: int) -> np.ndarray:
    """The rows of a step's batch of `count` samples that this process takes, in its order."""
    every = cuts(count, state.config.accumulate)
    return np.concatenate([np.zeros(0, np.int64), *(every[i] for i in state.parallel.own(len(every)))])


def on_device(labels: np.ndarray, device: str) -> Tensor:
    """Labels of the host, as `Objective.loss` takes them."""
    return Tensor(backends.get(device).from_numpy(labels), device)


def answers(logits: Tensor) -> np.ndarray:
    """The class (N,), int64, that each row of logits (N, K), on the device, predicts, or NO_ANSWER.

    Of equal logits the first counts. A row with a NaN, or without a finite maximum, has no probabilities.
    """
    return answered(logits.numpy())


def answered(values: np.ndarray) -> np.ndarray:
    """`answers` of logits (N, K) on the host."""
    return np.where(np.isfinite(values.max(axis=1)), values.argmax(axis=1), NO_ANSWER)


def judged(logits: Tensor, labels: np.ndarray) -> tuple[int, int]:
    """(labels (N,) that the logits (N, K), on the device, predict; rows that predict anything at all)."""
    given = answers(logits)
    return int(np.count_nonzero(given == labels)), int(np.count_nonzero(given != NO_ANSWER))
