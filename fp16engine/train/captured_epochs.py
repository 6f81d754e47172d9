"""Which steps of an epoch are replays of the captured step, and why the others are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import observer
from .batches import ImageFeed
from .captured import CapturedStep

if TYPE_CHECKING:
    from ..numerics.audit_log import AuditLog
    from .trainer import Trainer


class CapturedEpochs:
    """Which steps of `fit` are replayed, and why the others are not."""

    def __init__(self, trainer: Trainer, feed: Any, audits: AuditLog | None = None) -> None:
        self._trainer, self._feed, self._audits = trainer, feed, audits
        self._step: CapturedStep | None = None
        self._eager = 0
        self._reasons: dict[str, None] = {}

    @property
    def step(self) -> CapturedStep:
        """The captured step; only after `begin`."""
        assert self._step is not None
        return self._step

    @property
    def failed(self) -> bool:
        """Whether the step turned out not to be recordable."""
        return self._step is not None and self._step.reason is not None

    def takes(self, step: int) -> bool:
        """Tell whether the step with that index in the epoch is to be replayed; notes why not."""
        reason = self._refusal(step)
        if reason is None:
            return True
        self._eager += 1
        self._reasons[reason] = None
        return False

    def begin(self, order: Any, step: int) -> None:
        """Get ready for a stretch of steps from `step` of the epoch on."""
        if self._step is None:
            feed = self._feed
            self._step = CapturedStep(
                self._trainer, feed.train.images, feed.train.labels, feed.batch_size, feed.augmenting
            )
        self._step.begin(order, step)

    def most(self, step: int) -> int:
        """How many steps can be replayed from `step` on: up to a smaller batch, a sample or an audit."""
        left = len(self._feed.train) // self._feed.batch_size - step
        if self._trainer.monitor is None and self._audits is None:
            return left
        return next((ahead for ahead in range(left) if self._monitored(ahead) or self._audited(ahead)), left)

    def _monitored(self, ahead: int = 0) -> bool:
        trainer = self._trainer
        return trainer.monitor is not None and trainer.monitor.due(trainer.state, ahead)

    def _audited(self, ahead: int = 0) -> bool:
        return self._audits is not None and self._audits.due(ahead)

    def _refusal(self, step: int) -> str | None:
        trainer, feed = self._trainer, self._feed
        if observer.observed():
            return "every operation is looked at, by an audit or a timer"
        if trainer.nonfinite.action != "skip":
            return f"on_nonfinite={trainer.nonfinite.action!r} wants to know of every step at once"
        if not isinstance(feed, ImageFeed):
            return "the batches are made on the host"
        if trainer.overrides_step:
            return f"{type(trainer).__name__} has a step of its own"
        if (reason := trainer.state.host_reason) is not None:
            return reason
        if self._step is not None and self._step.reason is not None:
            return self._step.reason
        if self._audited():
            return "the audit looks at every operation of its steps"
        if self._monitored():
            return "the monitor looks at every operation of its samples"
        if self.most(step) < 1:
            return "the last batch of the epoch is smaller"
        return None

    def summary(self) -> dict[str, Any]:
        """What became of it, as JSON values."""
        step = self._step
        return {
            "kernels_per_step": step.kernels if step else 0,
            "arena_bytes": step.arena_bytes if step else 0,
            "eager_steps": self._eager,
            "reasons": list(self._reasons),
        }

    def note(self) -> str:
        """One line on it."""
        kernels = self._step.kernels if self._step else 0
        told = f"captured step of {kernels} kernels" if kernels else "no captured step"
        why = "; ".join(self._reasons)
        return f"{told}, {self._eager} steps operation by operation ({why})" if why else told
