"""One training step, operation by operation: forward, backward, checks, update."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .. import random
from ..tensor import Tensor
from . import batches, layer_formats
from .account import Account, StepResult
from .task import Task, judged

if TYPE_CHECKING:
    from ..numerics.explain import Explanation
    from ..numerics.monitor import Monitor
    from ..numerics.ranges import Ranges
    from ..optim import Optimizer

Array = Any


class Stepping(Task, Account):
    """The part of `Trainer` that takes a step; captured.py takes the same one as one recording."""

    optimizer: Optimizer
    monitor: Monitor | None
    _parameters: list[tuple[str, Tensor]]
    _buffers: list[Tensor]
    _averages: list[tuple[str, Tensor]]  # the buffers that are no counters

    def step(self, x: Any, y: Any) -> StepResult:
        """One training step on images x (N, H, W, C), floating point, and labels y (N,), integers.

        x is rounded once to the storage dtype; loss is the mean cross-entropy of the batch, rounded to it.
        Raises TypeError or ValueError naming x or y, and NonFiniteError after `max_bad_steps` bad steps in a
        row.
        """
        images = batches.device_images(x, self.device, self.precision.storage)
        return self.train_batch(images, batches.host_labels(y, images.shape[0]))[0]

    def train_batch(self, images: Array, labels: np.ndarray) -> tuple[StepResult, int]:
        """`step` on checked inputs: images on the device in the storage dtype, labels int64 on the host.

        Also returns how many labels the step's own logits (before its update) predict correctly.
        """
        backend = backends.get(self.device)
        if not self.model.training:
            self.model.train()
        self.optimizer.lr = self.learning_rate()
        self.optimizer.zero_grad()
        before = [(buffer, backend.copy(buffer.data)) for buffer in self._buffers]
        drawn = dict(self._random_state)
        scale = 1.0 if self.scaler is None else self.scaler.scale
        with self.in_force.use(), self._own_randomness(), self._watched() as phase:
            logits = self._logits(images)
            correct, _ = judged(logits, labels)
            loss = self._loss(logits, labels)
            value = float(loss.item())
            culprit = None
            if math.isfinite(value):
                phase("backward")
                loss.backward(Tensor(backend.full(loss.shape, scale, loss.dtype), self.device))
                culprit = self._nonfinite()
            applied = math.isfinite(value) and culprit is None
            if applied:
                self.optimizer.step(grad_scale=self._grad_scale(scale), count=phase("update"))
                layer_formats.requantize_weights(self.model, self.precision)
        if not applied:
            for buffer, data in before:
                buffer.data = data
        result = self._settle(
            value,
            culprit,
            lambda: self._why(images),
            explained=lambda: self._explained(images, labels, drawn, scale),
        )
        return result, correct

    @contextlib.contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Dropout draws from the trainer's counter, so trainers side by side do not disturb one another."""
        outer = random.get_state()
        random.set_state(self._random_state)
        try:
            yield
        finally:
            self._random_state = random.get_state()
            random.set_state(outer)

    def _watched(self) -> contextlib.AbstractContextManager[Callable[[str], bool]]:
        """What surrounds a step: the monitor where it is its turn, nothing otherwise."""
        if self.monitor is not None and self.monitor.due(self):
            return self.monitor.sample(self)
        return contextlib.nullcontext(_unwatched)

    def _grad_scale(self, scale: float) -> float:
        """The factor on the gradients: 1 / loss scale, and what brings their common norm down to clip_norm.

        It acts in the optimizer's registers, so that clipped gradients are not rounded once more.
        """
        most = self.settings.get("clip_norm")
        if most is None:
            return 1.0 / scale
        backend = backends.get(self.device)
        power, root = backend.global_norm([p.grad.data for _, p in self._parameters if p.grad is not None])
        norm = power * root / scale
        return (most / norm if norm > most else 1.0) / scale

    def _judged(self) -> list[tuple[str, Array | None]]:
        """What must be finite after a backward pass, in words, the first to become infinite last.

        Running statistics are made before any gradient; the backward pass meets parameters in reverse order.
        """
        gradients = [(f"the gradient of {name!r}", p.grad) for name, p in self._parameters]
        averages = [(f"the buffer {name!r}", buffer) for name, buffer in reversed(self._averages)]
        return [(words, None if t is None else t.data) for words, t in (*gradients, *averages)]

    def _nonfinite(self) -> str | None:
        """The gradient or running statistic that was the first not to be finite, in words, or None."""
        backend = backends.get(self.device)
        judged = [(words, data) for words, data in self._judged() if data is not None]
        if not judged or backend.all_finite([data for _, data in judged]):
            return None
        return next(words for words, data in reversed(judged) if not backend.all_finite([data]))

    def _gradient_ranges(self) -> Ranges:
        """Where the gradients of all parameters, as they are stored, lie on binary16's number line."""
        from ..numerics.ranges import Ranges

        backend = backends.get(self.device)
        grads = [p.grad.data for _, p in self._parameters if p.grad is not None]
        return Ranges.of_counts(backend.to_numpy(backend.range_statistics(grads)).sum(axis=0))

    def _why(self, images: Array) -> str:
        """Where a non-finite loss comes from, as far as input and weights tell."""
        backend = backends.get(self.device)
        if not self._is_finite(images):
            return f"the input x holds nan, infinity or values beyond {self.precision.storage}"
        for name, parameter in self._parameters:
            if not backend.all_finite([parameter.data]):
                return f"the parameter {name!r} is not finite"
        return "input and parameters are finite, so the forward pass overflowed"

    def _explained(
        self, images: Array, labels: np.ndarray, drawn: dict[str, Any], scale: float
    ) -> Explanation:
        from ..numerics.explain import explain

        return explain(self, images, labels, drawn, scale)


def _unwatched(phase: str) -> bool:
    """Where nobody looks, a phase begins unnoticed and nothing is counted."""
    return False
