"""Learning-rate schedules over applied steps: a skipped step does not advance them."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]

NAMES = ("constant", "cosine")


def constant(lr: float) -> Schedule:
    """The same learning rate at every step."""
    return lambda applied: lr


def cosine(lr: float, total_steps: int) -> Schedule:
    """lr/2 * (1 + cos(pi * applied / total_steps)), no restarts (Loshchilov and Hutter, arXiv 1608.03983)."""
    if total_steps < 1:
        raise ValueError(f"total_steps: {total_steps} given, at least 1 is wanted")
    return lambda applied: 0.5 * lr * (1.0 + math.cos(math.pi * min(applied, total_steps) / total_steps))


def check(name: str) -> str:
    """The name itself; ValueError naming the choices when there is no such schedule."""
    if name not in NAMES:
        raise ValueError(f"schedule: {name!r} given, one of {', '.join(NAMES)} is wanted")
    return name


def get(name: str, lr: float, total_steps: int | None) -> Schedule:
    """The schedule of that name: applied steps -> learning rate (a Python float, rounded nowhere)."""
    if check(name) == "constant":
        return constant(lr)
    if total_steps is None:
        raise ValueError("schedule: 'cosine' needs to know how many steps there are; train with fit()")
    return cosine(lr, total_steps)
