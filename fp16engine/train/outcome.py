"""What came of a step, and whether a run that came to its end trained anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import NonFiniteError
from .counters import NonfiniteRule, StepResult

if TYPE_CHECKING:
    from ..numerics.explain import Explanation
    from ..numerics.ranges import Ranges
    from .state import TrainState

LEAST_APPLIED = 0.5  # a share of the steps; a loss scale that is still looking for its level skips far fewer


def failure(attempted: int, applied: int, accuracy: float) -> str | None:
    """Why a finished run counts as failed, in one sentence, or None.

    It failed where fewer than half of the steps it attempted were applied, and where no output of the network
    is finite any more (its test accuracy is nan then).

    >>> failure(46, 45, 0.9)
    >>> failure(46, 2, 0.1).partition(";")[0]
    'only 2 of 46 steps were applied'
    """
    facts = []
    if math.isnan(accuracy):
        facts.append("the network's outputs are not finite")
    if applied < LEAST_APPLIED * attempted:
        facts.append(f"only {applied} of {attempted} steps {'was' if applied == 1 else 'were'} applied")
    if not facts:
        return None
    return f"{' and '.join(facts)}; lower the learning rate or check the input"


def origin_in_words(state: TrainState, index: int | None) -> str:
    """Where a loss that is not finite comes from: 0 is the input, i the i-th of the weights, None neither."""
    if index is None:
        return "input and parameters are finite, so the forward pass overflowed"
    if index == 0:
        return f"the input x holds nan, infinity or values beyond {state.precision.storage}"
    return f"the parameter {state.weights[index - 1][0]!r} is not finite"


def settle(
    state: TrainState,
    rule: NonfiniteRule,
    value: float,
    culprit: str | None,
    why: Callable[[], str],
    gradients: Callable[[], Ranges],
    explained: Callable[[], Explanation] | None = None,
) -> StepResult:
    """Account for a step by its loss and the gradient or buffer that was not finite, in words, if any.

    why: where a loss that is not finite comes from, in words; gradients: their ranges, asked for where an
    automatic loss scale measures them; explained: where the loss comes from by a replay. The optimizer has
    its step behind it. Raises NonFiniteError as `rule` has it.
    """
    counters, scaler = state.counters, state.scaler
    counters.step_count += 1
    if math.isfinite(value) and culprit is None:
        counters.applied_steps += 1
        counters.bad_streak = 0
        if scaler is not None:
            if scaler.measuring:
                scaler.observe(gradients())
            scaler.update(True)
        return StepResult(value, True)
    if culprit is None:
        reason = f"the loss is {'NaN' if math.isnan(value) else value}: {why()}"
    elif scaler is None:
        reason = f"{culprit} is not finite"
    else:
        reason = f"{culprit} is not finite at loss scale {scaler.scale:g}"
        counters.skipped_steps += 1
        scaler.update(False)
        if scaler.diagnosis is not None:
            raise NonFiniteError(scaler.diagnosis)
        return StepResult(value, False, reason)
    counters.nonfinite_steps += 1
    counters.bad_streak += 1
    _end(rule, counters.step_count, counters.bad_streak, reason, explained)
    return StepResult(value, False, reason)


def _end(
    rule: NonfiniteRule, step: int, streak: int, reason: str, explained: Callable[[], Explanation] | None
) -> None:
    """Raise NonFiniteError where a step that is not finite ends the run."""
    if rule.action == "stop":
        raise NonFiniteError(f"step {step} was not applied because {reason}")
    if rule.action == "explain" and explained is not None:
        explanation = explained()
        error = NonFiniteError(f"{explanation.text}\n({reason})")
        error.explanation = explanation.to_dict()
        raise error
    if streak >= rule.max_bad_steps:
        raise NonFiniteError(
            f"{streak} steps in a row were not applied, the last one (step {step}) "
            f"because {reason}; lower the learning rate, check the input, or try precision 'mp' or 'fp32'"
        )
