"""One training step: what is the same however it runs, and the step taken operation by operation.

`run_step` is the step; a `StepControl` decides what the loss and the gradients decide. That of
host_control.py reads them back after every operation that matters, accumulation.py's does so for several
micro-batches, and device_control.py leaves them on the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import backend as backends
from .. import random
from ..numerics.explain import explain
from ..numerics.watch import FORWARD
from ..tensor import Tensor
from .accumulation import AccumulatingControl, stream
from .counters import NonfiniteRule, StepResult
from .host_control import HostControl
from .objective import Objective, Part, cuts, on_device
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

    def micro_batch(self, part: int) -> AbstractContextManager[None]:
        """Surround the forward and the backward pass of a micro-batch, with its own random counters."""

    def judge(self, logits: Tensor, part: int) -> None:
        """Count the labels of a micro-batch that the logits predict."""

    def loss_gradient(self, loss: Tensor, part: int) -> Tensor | None:
        """The seed of a micro-batch's backward pass, the loss scale times its weight; None where there is
        nothing to go back from."""

    def backward(self, loss: Tensor, gradient: Tensor) -> None:
        """Go back from the loss of a micro-batch."""

    def update(self, inputs: Any, loss: Tensor | None) -> None:
        """Check the gradients; then update weights and optimizer state, or bring the buffers back."""


def run_step(
    state: TrainState, objective: Objective, control: StepControl, parts: Iterable[tuple[Any, Tensor]]
) -> None:
    """Forward, backward, checks, update. parts: (inputs, labels) pairs, the micro-batches."""
    state.optimizer.zero_grad()
    control.keep_buffers()
    inputs = loss = None
    with state.in_force.use():
        for part, (inputs, labels) in enumerate(parts):
            with control.micro_batch(part):
                logits = objective.logits(state, inputs)
                control.judge(logits, part)
                loss = objective.loss(logits, labels)
                gradient = control.loss_gradient(loss, part)
                if gradient is not None:
                    control.backward(loss, gradient)
            if gradient is None:
                break
    control.update(inputs, loss)


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
        count = 1 if state.config.accumulate == 1 else len(cuts(len(labels), state.config.accumulate))
        host = (
            HostControl(state, parts, phase)
            if count == state.parallel.size == 1
            else AccumulatingControl(state, parts, count, phase)
        )
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

    for part in parts:
        with random.using(stream(drawn, part.index)):
            arrays = objective.float_arrays(part.inputs)
            found = explain(state, partial(forward, part), arrays, part.weight * scale)
        if found.layer is not None:
            break
    return found
