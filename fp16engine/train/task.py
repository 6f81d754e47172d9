"""What a trainer trains, and how its batches are made, read and judged: what another task overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .. import functional as F
from ..tensor import Tensor
from . import batches

if TYPE_CHECKING:
    from ..data.augment import Augmentation
    from ..nn import Module
    from ..precision import Precision

Array = Any


class Task:
    """Image classification by cross-entropy; the base of `Trainer`, which sets the attributes.

    Attributes:
        model: on `device`, rounded to the policy's storage dtype.
        precision: the policy; in_force: what it plans for the epoch begun last.
        settings: everything that checkpoints keep of how the run was set up.
        augment: what the training images go through, or None.
        seed: orders the data and drives dropout, augmentation and stochastic rounding.
    """

    model: Module
    device: str
    precision: Precision
    in_force: Precision
    settings: dict[str, Any]
    augment: Augmentation | None
    seed: int

    def feed(self, dataset: Any, batch_size: int) -> Any:
        """The batches that `fit` trains on and evaluates on; see `batches.ImageFeed`."""
        return batches.ImageFeed.of(self, dataset, batch_size)

    def _loss(self, logits: Tensor, labels: np.ndarray, training: bool = True) -> Tensor:
        return self._device_loss(
            logits, Tensor(backends.get(self.device).from_numpy(labels), self.device), training
        )

    def _device_loss(self, logits: Tensor, labels: Tensor, training: bool = True) -> Tensor:
        smoothing = self.settings.get("label_smoothing", 0.0) if training else 0.0
        return F.cross_entropy(logits, labels, batches.IGNORED, smoothing)

    def _is_finite(self, images: Array) -> bool:
        return bool(backends.get(self.device).all_finite([images]))

    def _logits(self, images: Array) -> Tensor:
        logits: Tensor = self.model(Tensor(images, self.device))
        if logits.ndim != 2 or logits.shape[0] != images.shape[0]:
            raise ValueError(
                f"model: output of shape {logits.shape} for images of shape {tuple(images.shape)}, "
                f"({images.shape[0]}, classes) is wanted"
            )
        return logits


def judged(logits: Tensor, labels: np.ndarray) -> tuple[int, int]:
    """(labels (N,) that the logits (N, K), on the device, predict; rows that predict anything at all).

    Of equal logits the first counts. A row with a NaN, or without a finite maximum, has no probabilities
    and is a wrong answer.
    """
    values = logits.numpy()
    answered = np.isfinite(values.max(axis=1))
    correct = answered & (values.argmax(axis=1) == labels)
    return int(np.count_nonzero(correct)), int(np.count_nonzero(answered))
