"""The factor on the loss of a precision policy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .validate import integer, must_be, number


@dataclass(frozen=True)
class LossScale:
    """Factor on the loss that keeps small FP16 gradients from underflowing.

    Args:
        initial: the scale of the first step.
        growth: factor >= 1 on the scale after `interval` applied steps in a row.
        backoff: factor <= 1 on the scale at every overflow.
        interval: applied steps in a row before the scale grows, >= 1.
        floor: the smallest scale.
        cap: the largest scale. It enters the backward pass as a binary16 gradient of the loss, so the default
            is the largest power of two there is in binary16.
        dynamic: False keeps the scale constant.
        automatic: choose the scale from the histogram of the gradients instead, without crash and halve: the
            power of two that puts the largest of the last measured gradients of weights at 2^13, a factor of
            eight below infinity.

    All five factors are powers of two, so that scaling is exact.

    Raises:
        ValueError: a factor is no power of two, `initial` is outside [`floor`, `cap`], or growth, backoff or
            interval is out of range.

    Source:
        Micikevicius et al., 2017, arXiv 1710.03740.

    >>> LossScale(initial=1024.0, dynamic=False).initial
    1024.0
    """

    initial: float = 32768.0
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000
    floor: float = 1.0
    cap: float = 32768.0
    dynamic: bool = True
    automatic: bool = False

    @classmethod
    def from_histogram(cls) -> LossScale:
        """Return the policy that chooses the scale from the histogram of the gradients, starting at 1.

        >>> LossScale.from_histogram().initial
        1.0
        """
        return cls(initial=1.0, automatic=True)

    def __post_init__(self) -> None:
        for name in ("initial", "growth", "backoff", "floor", "cap"):
            value = getattr(self, name)
            value = number(name, getattr(self, name), above=0)
            if math.frexp(value)[0] != 0.5:
                raise ValueError(must_be(name, "a power of two, so that scaling is exact", value))
            number("growth", self.growth, minimum=1)
            number("backoff", self.backoff, maximum=1)
            number("initial", self.initial, minimum=self.floor, maximum=self.cap)
            integer("interval", self.interval, 1)
