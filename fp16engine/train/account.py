"""The account of a run: steps by their outcome, loss scale, randomness, and the schedule that they drive."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import random
from ..errors import NonFiniteError
from . import batches
from . import schedule as _schedules

if TYPE_CHECKING:
    from ..numerics.explain import Explanation
    from ..numerics.ranges import Ranges
    from .scaler import LossScaler


@dataclass(frozen=True)
class StepResult:
    """What one training step did. `reason` says in words why a step was not applied, else None."""

    loss: float
    applied: bool
    reason: str | None = None


class Account:
    """Counters of the current run; the base of `Trainer`, which sets the other attributes.

    step_count (attempted) = applied_steps + skipped_steps (loss scale too high) + nonfinite_steps (no loss
    scale would help).
    """

    seed: int
    base_lr: float
    settings: dict[str, Any]
    max_bad_steps: int
    on_nonfinite: str
    scaler: LossScaler | None
    _random_state: dict[str, int]
    _schedule: _schedules.Schedule | None

    def reset_counters(self) -> None:
        """Start the account of steps afresh; weights, optimizer state and loss scale stay."""
        self.step_count = self.applied_steps = self.skipped_steps = self.nonfinite_steps = 0
        self._bad_streak = 0

    def learning_rate(self, applied: int | None = None) -> float:
        """The learning rate of the next step, or of the one that comes after `applied` steps."""
        if self._schedule is None:
            self.set_total_steps(None)
        assert self._schedule is not None
        return self._schedule(self.applied_steps if applied is None else applied)

    def set_total_steps(self, total: int | None) -> None:
        """Lay the schedule out over `total` steps; `fit` does so. None is enough for "constant"."""
        self._schedule = _schedules.get(
            self.settings["schedule"], self.base_lr, total, self.settings.get("warmup", 0)
        )

    def state_dict(self) -> dict[str, Any]:
        """Counters, randomness and loss scale as JSON values; weights and optimizer state are apart."""
        return {
            "step_count": self.step_count,
            "applied_steps": self.applied_steps,
            "skipped_steps": self.skipped_steps,
            "nonfinite_steps": self.nonfinite_steps,
            "bad_streak": self._bad_streak,
            "random": dict(self._random_state),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; ValueError or KeyError for anything else."""
        counts = ("step_count", "applied_steps", "skipped_steps", "nonfinite_steps", "bad_streak")
        values = {key: batches.count(key, state[key], 0) for key in counts}
        if (state["scaler"] is None) != (self.scaler is None):
            raise ValueError("scaler: a loss scale belongs to policies that have one, and to no other")
        with random.fork(self.seed):
            random.set_state(state["random"])
            self._random_state = random.get_state()
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        self._bad_streak = values.pop("bad_streak")
        for key, value in values.items():
            setattr(self, key, value)

    def _settle(
        self,
        value: float,
        culprit: str | None,
        why: Callable[[], str],
        gradients: Ranges | None = None,
        explained: Callable[[], Explanation] | None = None,
    ) -> StepResult:
        """Account for a step by its loss and the gradient or buffer that was not finite, in words, if any.

        why: where a loss that is not finite comes from, in words; gradients: their ranges, where they were
        measured in the step itself; explained: where the loss comes from by a replay, for
        `on_nonfinite="explain"`. The optimizer has its step behind it.
        """
        self.step_count += 1
        if math.isfinite(value) and culprit is None:
            self.applied_steps += 1
            self._bad_streak = 0
            if self.scaler is not None:
                if self.scaler.measuring:
                    self.scaler.observe(self._gradient_ranges() if gradients is None else gradients)
                self.scaler.update(True)
            return StepResult(value, True)
        if culprit is None:
            reason = f"the loss is {value}: {why()}"
            self._count_nonfinite(reason, explained)
        elif self.scaler is None:
            reason = f"{culprit} is not finite"
            self._count_nonfinite(reason, explained)
        else:
            reason = f"{culprit} is not finite at loss scale {self.scaler.scale:g}"
            self._count_skipped()
        return StepResult(value, False, reason)

    def _gradient_ranges(self) -> Ranges:
        """Where the gradients of all parameters, as they are stored, lie on binary16's number line."""
        raise NotImplementedError

    def _count_skipped(self) -> None:
        assert self.scaler is not None
        self.skipped_steps += 1
        self.scaler.update(False)
        if self.scaler.diagnosis is not None:
            raise NonFiniteError(self.scaler.diagnosis)

    def _count_nonfinite(self, reason: str, explained: Callable[[], Explanation] | None) -> None:
        self.nonfinite_steps += 1
        self._bad_streak += 1
        if self.on_nonfinite == "stop":
            raise NonFiniteError(f"step {self.step_count} was not applied because {reason}")
        if self.on_nonfinite == "explain" and explained is not None:
            explanation = explained()
            error = NonFiniteError(f"{explanation.text}\n({reason})")
            error.explanation = explanation.to_dict()
            raise error
        if self._bad_streak >= self.max_bad_steps:
            raise NonFiniteError(
                f"{self._bad_streak} steps in a row were not applied, the last one (step {self.step_count}) "
                f"because {reason}; lower the learning rate, check the input, or try precision 'mp' or 'fp32'"
            )
