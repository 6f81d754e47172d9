"""What numerics sees of training: the parts of a run that it reads, and a trainer that it lets take steps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..nn import Module
    from ..optim import Optimizer
    from ..precision import Precision
    from ..tensor import Tensor


class TrainingView(Protocol):
    """A run, to read: its network, optimizer and policy, and where it stands; `train.TrainState` is one.

    `parameters` and `buffers` are (path, tensor) pairs of `model`; `in_force` is what `precision` plans for
    the present epoch; `base_lr` is where the schedule starts. `audit` is for the run's `AuditLog` to write.
    `lookahead` has slow averages, `arrays()`, or is None.
    """

    model: Module
    device: str
    precision: Precision
    in_force: Precision
    optimizer: Optimizer
    audit: dict[str, Any] | None

    @property
    def lookahead(self) -> Any:
        """Its `train.lookahead.Lookahead`, or None."""

    @property
    def parameters(self) -> Sequence[tuple[str, Tensor]]:
        """What is trained."""

    @property
    def buffers(self) -> Sequence[tuple[str, Tensor]]:
        """What a step changes in addition to."""

    @property
    def step_count(self) -> int:
        """Attempted steps."""

    @property
    def loss_scale(self) -> float:
        """The factor on the loss, 1 without loss scaling."""

    @property
    def base_lr(self) -> float:
        """The learning rate that the schedule starts from."""


class StepOutcome(Protocol):
    """What is asked of a step: whether it was applied."""

    @property
    def applied(self) -> bool:
        """Whether weights were updated."""


class Steppable(Protocol):
    """A trainer, to take steps with; `train.Trainer` is one."""

    @property
    def state(self) -> TrainingView:
        """Its run."""

    def set_total_steps(self, total: int | None) -> None:
        """Lay the learning rate's schedule out."""

    def step(self, x: Any, y: Any) -> StepOutcome:
        """Take a step on a batch of the caller's."""

    def train_batch(self, inputs: Any, labels: Any) -> tuple[StepOutcome, int]:
        """Take a step on a batch of the trainer's feed."""

    def predict(self, images: Any, batch_size: int) -> Any:
        """Classify images."""

    def rehearsal(self) -> AbstractContextManager[None]:
        """Surround steps that leave no trace."""
