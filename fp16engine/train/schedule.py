"""Learning-rate schedules over applied steps: a skipped step does not advance them."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..validate import choice, integer, must_be

Schedule = Callable[[int], float]

NAMES = ("constant", "cosine", "linear", "triangle", "inverse-sqrt")
_RISING = 0.23  # share of the steps in which a triangle rises
_START, _END = 0.2, 0.07  # of the learning rate


def constant(lr: float) -> Schedule:
    """The same learning rate at every step."""
    return lambda applied: lr


def cosine(lr: float, total_steps: int) -> Schedule:
    """lr/2 * (1 + cos(pi * applied / total_steps)), no restarts (Loshchilov and Hutter, arXiv 1608.03983)."""
    integer("total_steps", total_steps, 1)
    return lambda applied: 0.5 * lr * (1.0 + math.cos(math.pi * min(applied, total_steps) / total_steps))


def linear(lr: float, total_steps: int) -> Schedule:
    """lr * (1 - applied / total_steps): down to 0."""
    integer("total_steps", total_steps, 1)
    return lambda applied: lr * (1.0 - min(applied, total_steps) / total_steps)


def triangle(lr: float, total_steps: int) -> Schedule:
    """From 0.2 lr up to lr in the first 23 % of the steps, then down to 0.07 lr (Jordan, arXiv
    2404.00498)."""
    integer("total_steps", total_steps, 1)
    top = int(total_steps * _RISING)

    def at(applied: int) -> float:
        if applied < top:
            return lr * (_START + (1.0 - _START) * applied / top)
        share = min(1.0, (applied - top) / (total_steps - top))
        return lr * (1.0 - (1.0 - _END) * share)

    return at


def inverse_sqrt(lr: float, warmup: int) -> Schedule:
    """lr * sqrt(warmup / (applied + 1)) from step `warmup` on, lr before (Vaswani et al., 1706.03762)."""
    return lambda applied: lr * math.sqrt(warmup / max(applied + 1, warmup))


def warmed_up(schedule: Schedule, warmup: int) -> Schedule:
    """The schedule, times (applied + 1) / warmup for the first `warmup` applied steps."""
    return lambda applied: schedule(applied) * min(1.0, (applied + 1) / warmup)


_LAID_OUT = {"cosine": cosine, "linear": linear, "triangle": triangle}


def check(name: str) -> str:
    """The name itself; ValueError naming the choices when there is no such schedule."""
    return choice("schedule", name, NAMES)


def needs_total(name: str) -> bool:
    """Tell whether a schedule is laid out for a number of steps."""
    return name in _LAID_OUT


def check_warmup(name: str, warmup: int) -> int:
    """The number itself; ValueError for 0 with "inverse-sqrt", which falls from the last such step on."""
    if name == "inverse-sqrt" and warmup < 1:
        raise ValueError(must_be("warmup", "at least 1 step with schedule 'inverse-sqrt'", warmup))
    return warmup


def get(name: str, lr: float, total_steps: int | None, warmup: int = 0) -> Schedule:
    """The schedule of that name: applied steps -> learning rate (a Python float, rounded nowhere)."""
    if check(name) == "constant":
        schedule = constant(lr)
    elif name == "inverse-sqrt":
        schedule = inverse_sqrt(lr, check_warmup(name, warmup))
    elif total_steps is None:
        raise ValueError(f"total_steps must be given with schedule {name!r}, got None; train with fit()")
    else:
        schedule = _LAID_OUT[name](lr, total_steps)
    return warmed_up(schedule, warmup) if warmup else schedule
