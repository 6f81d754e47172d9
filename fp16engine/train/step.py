"""One training step: what is the same however it runs, and the step taken operation by operation.

`run_step` is the step; a `StepControl` decides what the loss and the gradients decide. `HostControl` reads
them back after every operation that matters; device_control.py leaves them on the device.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import backend as backends
from .. import random
from ..numerics.explain import explain
from ..numerics.watch import BACKWARD, FORWARD, UPDATE
from ..tensor import Tensor
from .counters import NonfiniteRule, StepResult
from .objective import Objective, Part, judged, on_device
from .outcome import origin_in_words, settle
from .state import TrainState

if TYPE_CHECKING:
    from ..numerics.explain import Explanation
    from ..numerics.monitor import Monitor

Array = Any


class StepControl(Protocol):
    """What decides, on the host or on the device, whether and how a step is applied."""

    def keep_buffers(self) -> None:
        """Keep the running statistics, which a step that is not applied leaves as they were."""

    def randomness(self) -> AbstractContextManager[None]:
        """Surround the forward and the backward pass with the run's own random counters."""

    def judge(self, logits: Tensor, part: int) -> None:
        """Count the labels of a micro-batch that the logits predict."""

    def loss_gradient(self, loss: Tensor, part: int) -> Tensor | None:
        """The seed of a micro-batch's backward pass, the loss scale times its share; None where there is
        nothing to go back from."""

    def update(self, inputs: Any, loss: Tensor) -> None:
        """Check the gradients; then update weights and optimizer state, or bring the buffers back."""


def run_step(
    state: TrainState, objective: Objective, control: StepControl, parts: Iterable[tuple[Any, Tensor]]
) -> None:
    """Forward, backward, checks, update; the gradients of several micro-batches are added up.

    A gradient's sum is kept in its own dtype: each addition rounds once. parts: (inputs, labels) pairs.
    """
    state.optimizer.zero_grad()
    control.keep_buffers()
    with state.in_force.use(), control.randomness():
        for part, (inputs, labels) in enumerate(parts):
            logits = objective.logits(state, inputs)
            control.judge(logits, part)
            loss = objective.loss(logits, labels)
            gradient = control.loss_gradient(loss, part)
            if gradient is None:
                break
            loss.backward(gradient)
    control.update(inputs, loss)


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

    def randomness(self) -> AbstractContextManager[None]:
        return self._state.randomness()

    def judge(self, logits: Tensor, part: int) -> None:
        self.correct += judged(logits, self._parts[part].labels)[0]

    def loss_gradient(self, loss: Tensor, part: int) -> Tensor | None:
        share = self._parts[part].share
        self.value += share * float(loss.item())
        if not math.isfinite(self.value):
            return None
        self._phase(BACKWARD)
        return Tensor(self._backend.full(loss.shape, share * self._state.loss_scale, loss.dtype), loss.device)

    def update(self, inputs: Any, loss: Tensor) -> None:
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


def take_step(
    state: TrainState,
    objective: Objective,
    inputs: Any,
    labels: np.ndarray,
    rule: NonfiniteRule,
    monitor: Monitor | None = None,
) -> tuple[StepResult, int]:
    """One step on a batch, operation by operation: its result, and how many labels its logits predict.

    inputs: on the device in the storage dtype; labels: int64 (N,) on the host. Raises NonFiniteError as
    `rule` has it.
    """
    if not state.model.training:
        state.model.train()
    state.optimizer.lr = state.learning_rate()
    drawn, scale = dict(state.random), state.loss_scale
    parts = objective.parts(state, inputs, labels)
    with _sampled(state, monitor) as phase:
        host = HostControl(state, parts, phase)
        run_step(state, objective, host, _in_turn(parts, phase, state.device))
    result = settle(
        state,
        rule,
        host.value,
        host.culprit,
        why=partial(_why, state, objective, inputs),
        gradients=state.gradient_ranges,
        explained=partial(_explained, state, objective, parts, drawn, scale),
    )
    return result, host.correct


def _in_turn(
    parts: Sequence[Part], phase: Callable[[str], bool], device: str
) -> Iterator[tuple[Any, Tensor]]:
    """Yield inputs and labels of micro-batches, each where its forward pass begins."""
    for i, part in enumerate(parts):
        if i:
            phase(FORWARD)
        yield part.inputs, on_device(part.labels, device)


def _sampled(state: TrainState, monitor: Monitor | None) -> AbstractContextManager[Callable[[str], bool]]:
    """What surrounds a step: the monitor where it is its turn, nothing otherwise."""
    if monitor is not None and monitor.due(state):
        return monitor.sample(state)
    return contextlib.nullcontext(_unwatched)


def _unwatched(phase: str) -> bool:
    """Where nobody looks, a phase begins unnoticed and nothing is counted."""
    return False


def _why(state: TrainState, objective: Objective, inputs: Any) -> str:
    """Where a non-finite loss comes from, as far as input and weights tell."""
    backend = backends.get(state.device)
    given = [objective.float_arrays(inputs), *([parameter.data] for _, parameter in state.weights)]
    bad = (i for i, arrays in enumerate(given) if not all(backend.all_finite([array]) for array in arrays))
    return origin_in_words(state, next(bad, None))


def _explained(
    state: TrainState, objective: Objective, parts: Sequence[Part], drawn: dict[str, int], scale: float
) -> Explanation:
    """Replay a step from the random counters and the loss scale that it had, up to the micro-batch that tells
    something."""

    def forward(part: Part) -> Tensor:
        return objective.loss(objective.logits(state, part.inputs), on_device(part.labels, state.device))

    with random.using(drawn):
        for part in parts:
            arrays = objective.float_arrays(part.inputs)
            found = explain(state, partial(forward, part), arrays, part.share * scale)
            if found.layer is not None:
                break
    return found
