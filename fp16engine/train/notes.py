"""Lines that a run says about itself: where it begins, and where it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..nn import Module
    from .trainer import Trainer

MOST_ADVICE = 8  # lines at the end of a run


def own_decays(weight_decay: float, model: Module) -> str | None:
    """One sentence on the parameters that keep their own L2 factor against `weight_decay`, if any do."""
    factors = [p.weight_decay for p in model.parameters()]
    own = {factor for factor in factors if factor not in (None, weight_decay)}
    if not weight_decay or not own:
        return None
    kept = sum(factor is not None for factor in factors)
    return (
        f"weight_decay {weight_decay:g} is for {len(factors) - kept} of {len(factors)} parameters; "
        f"the other {kept} keep their own L2 factor, {', '.join(f'{factor:g}' for factor in sorted(own))}"
    )


def account(trainer: Trainer) -> list[str]:
    """One line each about skipped and non-finite steps; empty when every step was applied."""
    notes = []
    skips = None if trainer.scaler is None else trainer.scaler.summary()
    if skips:
        notes.append(skips)
    if trainer.nonfinite_steps:
        notes.append(
            f"{trainer.nonfinite_steps} of {trainer.step_count} steps were not applied: "
            "their loss or gradient was not finite"
        )
    if trainer.monitor is not None:
        advice = trainer.monitor.advice
        notes += [f"monitor: {line}" for line in advice[:MOST_ADVICE]]
        if len(advice) > MOST_ADVICE:
            notes.append(f"monitor: {len(advice) - MOST_ADVICE} more layers with such faults")
    return notes
