"""Whether a run that came to its end trained anything."""

from __future__ import annotations

import math

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
