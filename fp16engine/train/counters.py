"""What became of the steps of a run: counters, and the rule for steps that are not finite."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..validate import choice, integer

ON_NONFINITE = ("skip", "stop", "explain")


@dataclass(frozen=True)
class StepResult:
    """What one training step did.

    Args:
        loss: mean cross-entropy of the batch.
        applied: whether the weights were updated.
        reason: in words, why they were not; else None.

    >>> StepResult(2.3, True).reason is None
    True
    """

    loss: float
    applied: bool
    reason: str | None = None


@dataclass(frozen=True)
class NonfiniteRule:
    """What follows a step whose loss or gradient is not finite, and after how many in a row a run ends.

    "skip" continues, "stop" ends the run, "explain" names the operation and ends it.
    """

    action: str = "skip"
    max_bad_steps: int = 50

    def __post_init__(self) -> None:
        choice("on_nonfinite", self.action, ON_NONFINITE)
        integer("max_bad_steps", self.max_bad_steps, 1)


@dataclass
class StepCounters:
    """Steps of the current run by their outcome.

    step_count (attempted) = applied_steps + skipped_steps (loss scale too high) + nonfinite_steps (no loss
    scale would help); bad_streak: the nonfinite steps since the last applied one.
    """

    step_count: int = 0
    applied_steps: int = 0
    skipped_steps: int = 0
    nonfinite_steps: int = 0
    bad_streak: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> StepCounters:
        """Take the counts out of a state that may hold more; ValueError, TypeError or KeyError otherwise."""
        counts = cls(**{name: integer(name, state[name], 0, 2**63 - 1) for name in asdict(cls())})
        outcomes = counts.applied_steps + counts.skipped_steps + counts.nonfinite_steps
        if counts.step_count != outcomes:
            raise ValueError(
                f"step_count must be applied, skipped and nonfinite steps together, {outcomes}, "
                f"got {counts.step_count}"
            )
        return counts
