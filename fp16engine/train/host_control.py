"""The control of a step on the host: loss and gradients are read back, and decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from .. import backend as backends
from ..numerics.watch import BACKWARD, UPDATE
from ..tensor import Tensor
from .objective import Part, judged
from .state import TrainState

Array = Any


class HostControl:
    """Reads loss and gradients back, and decides by them.

    parts: the micro-batches; phase: called where a phase begins; tells whether the optimizer is to count its
    updates.

    Attributes, after the step:
        value: the loss, the mean over the step's labels.
        culprit: the gradient or running statistic that was not finite, in words.
        correct: how many labels the logits predict.
    """

    def __init__(self, state: TrainState, parts: Sequence[Part], phase: Callable[[str], bool]) -> None:
        self._state, self._parts, self._phase = state, parts, phase
        self._backend = backends.get(state.device)
        self._before: list[tuple[Tensor, Array]] = []
        self.value, self.correct = 0.0, 0
        self.culprit: str | None = None

    @property
    def applied(self) -> bool:
        """Whether everything was finite."""
        return math.isfinite(self.value) and self.culprit is None

    def keep_buffers(self) -> None:
        self._before = [(buffer, self._backend.copy(buffer.data)) for _, buffer in self._state.buffers]

    def micro_batch(self, part: int) -> AbstractContextManager[None]:
        return self._state.randomness()

    def judge(self, logits: Tensor, part: int) -> None:
        self.correct += judged(logits, self._parts[part].labels)[0]

    def loss_gradient(self, loss: Tensor, part: int) -> Tensor | None:
        self.value = float(loss.item())
        return self._seed(loss, 1.0) if math.isfinite(self.value) else None

    def _seed(self, loss: Tensor, weight: float) -> Tensor:
        self._phase(BACKWARD)
        scale = weight * self._state.loss_scale
        return Tensor(self._backend.full(loss.shape, scale, loss.dtype), loss.device)

    def backward(self, loss: Tensor, gradient: Tensor) -> None:
        loss.backward(gradient)

    def update(self, inputs: Any, loss: Tensor | None) -> None:
        state = self._state
        if math.isfinite(self.value):
            self.culprit = state.first_nonfinite()
        if self.applied:
            state.update(grad_scale(state), count=self._phase(UPDATE))
        else:
            for buffer, data in self._before:
                buffer.data = data


def grad_scale(state: TrainState) -> float:
    """The factor on the gradients: 1 / loss scale, and what brings their common norm down to clip_norm.

    It acts in the optimizer's registers, so that clipped gradients are not rounded once more.
    """
    most, scale = state.config.clip_norm, state.loss_scale
    if most is None:
        return 1.0 / scale
    power, root = backends.get(state.device).global_norm(state.gradients())
    norm = power * root / scale
    return (most / norm if norm > most else 1.0) / scale
