"""What a training step asks of the processes that share it, and the answers of a process alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from .. import backend as backends
from ..tensor import Tensor

Array = Any


class GradientSum(Protocol):
    """The gradients of a step's micro-batches, which become their mean."""

    def backward(self, loss: Tensor, gradient: Tensor) -> None:
        """Go back from the loss of the next own micro-batch and take the gradients that it gives."""

    def finish(self) -> None:
        """Put the mean over all micro-batches on the parameters."""


class Parallel(Protocol):
    """The processes (ranks) that take a training step together.

    Micro-batch i of a step is that of rank i mod size, so that neither the data nor the order of a sum
    depends on the number of ranks.
    """

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def own(self, count: int) -> range:
        """Which of `count` micro-batches, or batches of an evaluation, this process takes."""

    def begin(self, index: int, count: int) -> None:
        """Note that this process begins micro-batch `index` of `count`."""

    def interleaved(self, rows: np.ndarray, count: int | None = None) -> np.ndarray:
        """Join what the ranks found for their own: (own, C) -> (count, C), float64, in order, on all."""

    def gradient_sum(self, parameters: Sequence[Tensor], count: int) -> GradientSum:
        """Begin to add up the gradients of `count` micro-batches."""

    def agreed(self, words: str | None) -> str | None:
        """What the lowest rank that says something says; the same on all ranks."""

    def require_same(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError, on every rank, where the ranks have different settings; JSON values by name."""

    def record(self) -> dict[str, Any] | None:
        """What results and checkpoints say of it; None of a process alone."""


class OneProcess:
    """A process alone: it takes every micro-batch, and asks nobody."""

    rank, size = 0, 1

    def own(self, count: int) -> range:
        """All of them."""
        return range(count)

    def begin(self, index: int, count: int) -> None:
        """Nothing to note."""

    def interleaved(self, rows: np.ndarray, count: int | None = None) -> np.ndarray:
        """The rows themselves."""
        return rows

    def gradient_sum(self, parameters: Sequence[Tensor], count: int) -> LocalSum:
        """See `LocalSum`."""
        return LocalSum(parameters, count)

    def agreed(self, words: str | None) -> str | None:
        """The words themselves."""
        return words

    def require_same(self, settings: Mapping[str, Any]) -> None:
        """There is nobody who could differ."""

    def record(self) -> dict[str, Any] | None:
        """Nothing."""
        return None


class LocalSum:
    """Gradients of micro-batches, added in FP32 in order; their mean is rounded once to their dtype."""

    def __init__(self, parameters: Sequence[Tensor], count: int) -> None:
        self._parameters, self._count = parameters, count
        self._totals: dict[int, tuple[Array, str]] = {}

    def backward(self, loss: Tensor, gradient: Tensor) -> None:
        """Go back, and add."""
        loss.backward(gradient)
        for i, parameter in enumerate(self._parameters):
            if parameter.grad is not None:
                before, _ = self._totals.get(i, (None, ""))
                total = backends.get(parameter.device).add_to_sum(before, parameter.grad.data)
                self._totals[i] = total, parameter.grad.dtype
                parameter.grad = None

    def finish(self) -> None:
        """Divide, and round."""
        for i, (total, dtype) in self._totals.items():
            parameter = self._parameters[i]
            mean = backends.get(parameter.device).mean_of_sum(total, self._count, dtype)
            parameter.grad = Tensor(mean, parameter.device)
