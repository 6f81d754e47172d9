"""Try steps on a trainer and leave no trace: its bits before are its bits after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..train import Trainer


@contextmanager
def preserved(trainer: Trainer) -> Iterator[None]:
    """Bring weights, buffers, optimizer state, randomness, counters and schedule back when the block ends.

    They are copied to the host and back; inside, nobody monitors and a step that is not finite is skipped.
    """
    model, optimizer, state = trainer.model, trainer.optimizer, trainer.state_dict()
    weights, slots = model.state_dict(), optimizer.state_dict()
    kept = (trainer._schedule, trainer.monitor, trainer.on_nonfinite, trainer.max_bad_steps, model.training)
    trainer.monitor, trainer.on_nonfinite, trainer.max_bad_steps = None, "skip", 1 << 62
    try:
        yield
    finally:
        optimizer.zero_grad()
        model.load_state_dict(weights)
        optimizer.load_state_dict(slots)
        trainer.load_state_dict(state)
        trainer._schedule, trainer.monitor, trainer.on_nonfinite, trainer.max_bad_steps, training = kept
        model.train(training)
