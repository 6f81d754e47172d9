"""What a network is trained for: how batches are made and read, and how its outputs are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .. import functional as F
from ..data.collect import collected
from ..tensor import Tensor
from . import batches

if TYPE_CHECKING:
    from .state import TrainState

Array = Any
NO_ANSWER = -2  # no class, and no label that is padding


@dataclass(frozen=True)
class Objective:
    """Image classification by cross-entropy; another objective overrides what differs.

    `label_smoothing` is the share of a label spread over all classes, in training alone.
    """

    label_smoothing: float = 0.0

    def corpus(self, dataset: Any) -> Any:
        """The data set that `fit` works on, of what its caller gave; see `data.collect`."""
        return collected(dataset)

    def feed(self, state: TrainState, dataset: Any, batch_size: int) -> Any:
        """The batches that `fit` trains on and evaluates on; see `batches.ImageFeed`."""
        return batches.ImageFeed.of(state, dataset, batch_size)

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
        """The mean cross-entropy of a batch; labels: (N,) int64 on the device."""
        smoothing = self.label_smoothing if training else 0.0
        return F.cross_entropy(logits, labels, batches.IGNORED, smoothing)


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
