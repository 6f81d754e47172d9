"""A step of several micro-batches, in one process or shared by the ranks of a distributed run.

The bits of a step depend on its micro-batches and their order alone, not on who takes them: gradients are
added in FP32 in their order and their mean is rounded once, each micro-batch draws from a random stream of
its own, and each starts from the step's running statistics, of which the mean is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from .. import random
from ..tensor import Tensor
from .buffer_means import mean_buffers, values_of
from .host_control import HostControl
from .objective import Part
from .state import TrainState

STREAM = 0x9E3779B97F4A7C15  # odd, so that micro-batches below 2^64 have seeds of their own


class AccumulatingControl(HostControl):
    """The `StepControl` of a step of `count` micro-batches, of which `parts` are this process's own."""

    def __init__(
        self, state: TrainState, parts: Sequence[Part], count: int, phase: Callable[[str], bool]
    ) -> None:
        super().__init__(state, parts, phase)
        self._count = count
        tensors = [parameter for _, parameter in state.parameters]
        self._sum = state.parallel.gradient_sum(tensors, count)
        self._drawn = dict(state.random)
        self._losses: list[tuple[float, int]] = []
        self._ends: list[dict[str, int]] = []
        self._averages: list[np.ndarray] = []

    @contextmanager
    def micro_batch(self, part: int) -> Iterator[None]:
        """Draw from the micro-batch's own stream, and start from the running statistics of the step."""
        self._state.parallel.begin(self._parts[part].index, self._count)
        for buffer, data in self._before:
            buffer.data = self._backend.copy(data)
        with random.using(stream(self._drawn, self._parts[part].index)):
            yield
            self._ends.append(random.get_state())
        self._averages.append(values_of(self._state))

    def judge(self, logits: Tensor, part: int) -> None:
        """Count what the micro-batch predicts by itself."""
        self.correct = 0
        super().judge(logits, part)

    def loss_gradient(self, loss: Tensor, part: int) -> Tensor | None:
        """Note the loss; ranks go back from one that is not finite, too, since the others wait for them."""
        value = float(loss.item())
        self._losses.append((value, self.correct))
        if self._state.parallel.size == 1 and not math.isfinite(value):
            return None
        return self._seed(loss, self._parts[part].weight)

    def backward(self, loss: Tensor, gradient: Tensor) -> None:
        """Go back, and add the gradients."""
        self._sum.backward(loss, gradient)

    def update(self, inputs: object, loss: Tensor | None) -> None:
        """Agree on what was found, take the mean of gradients and running statistics, then apply or not."""
        parallel, state = self._state.parallel, self._state
        shares = [part.share for part in self._parts]
        found = [
            (share * value, correct, end["stream"], end["dropout"])
            for share, (value, correct), end in zip(shares, self._losses, self._ends, strict=False)
        ]
        rows = np.concatenate([np.reshape(found, (len(found), 4)), self._rows()], axis=1)
        rows = parallel.interleaved(rows, self._count)
        self.value = 0.0
        for loss_share in rows[:, 0]:
            self.value += float(loss_share)
            if not math.isfinite(self.value):
                break
        self.correct = int(rows[:, 1].sum())
        state.random = {**self._drawn, "stream": int(rows[0, 2]), "dropout": int(rows[0, 3])}
        self._sum.finish()
        if math.isfinite(self.value):
            mean_buffers(state, rows[:, 4:])
        super().update(inputs, loss)

    def _rows(self) -> np.ndarray:
        """The running statistics after each own micro-batch, (own, values); float64, which holds counts."""
        width = sum(buffer.size for _, buffer in self._state.buffers)
        return np.reshape(np.asarray(self._averages, np.float64), (len(self._averages), width))


def stream(drawn: dict[str, int], index: int) -> dict[str, int]:
    """Return the random state that micro-batch `index` of a step starts from; the first, the step's own.

    >>> stream({"seed": 1, "stream": 0, "dropout": 8}, 0)
    {'seed': 1, 'stream': 0, 'dropout': 8}
    """
    return {**drawn, "seed": (drawn["seed"] + index * STREAM) % 2**64}
