"""Dynamic loss scaling: powers of two only, with a floor, a cap and an account of every skipped step.

The scale is the seed of the backward pass (`loss.backward(grad=scale)`), so it acts before the division by
the batch size inside the fused cross-entropy gradient (Micikevicius et al., arXiv 1710.03740). The optimizer
undoes it in its FP32 register through `grad_scale = 1 / scale`; no unscaled FP16 gradient is ever stored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..floats import limits
from ..numerics.advice import TOP_EXPONENT
from ..validate import integer, must_be, number, shown

if TYPE_CHECKING:
    from fp16engine.loss_scale import LossScale
    from fp16engine.numerics.ranges import Ranges

Number = int | float

SETTLING = 16  # applied steps that are all measured
MEASURED_EVERY = 16  # applied steps from one measurement to the next, later on
WINDOW = 8  # measurements whose largest gradient counts


def largest_power_of_two(dtype: str) -> float:
    """The largest finite power of two of a floating dtype: 32768 for "float16"."""
    _, exponent = math.frexp(float(limits(dtype).max))
    return math.ldexp(1.0, exponent - 1)


class LossScaler:
    """Chooses the loss scale of the next step from whether the gradients of the last one were finite.

    Args:
        policy: a `LossScale`, whose factors are powers of two.
        dtype: of the loss, in which the scale enters the backward pass. 65536 is infinite in binary16, so the
            cap is at most 2^15 for "float16".
        patience: overflows in a row at the floor before `diagnosis` speaks.

    Nothing is rounded: scale and 1 / scale are powers of two.

    Raises:
        ValueError: the floor is above that cap, or patience is below 1.

    Source:
        Micikevicius et al., 2017, arXiv 1710.03740.

    >>> from fp16engine import LossScale
    >>> scaler = LossScaler(LossScale())
    >>> scaler.update(finite=False)
    >>> scaler.scale
    16384.0
    """

    def __init__(self, policy: LossScale, dtype: str = "float16", patience: int = 20) -> None:
        self.growth, self.backoff, self.floor = policy.growth, policy.backoff, policy.floor
        self.cap = min(policy.cap, largest_power_of_two(dtype))
        if self.floor > self.cap:
            raise ValueError(f"floor must be <= {self.cap:g} for {dtype} gradients, got {policy.floor:g}")
        integer("patience", patience, 1)
        self.dynamic = policy.dynamic
        self.automatic = policy.automatic
        self.interval = policy.interval
        self.patience = patience
        self.scale = min(policy.initial, self.cap)
        self.applied = 0
        self.skipped = 0
        self.search_skips = 0
        self._clean_steps = 0
        self._stuck_steps = 0
        self._tops: list[int] = []  # exponents of the largest unscaled gradients
        self.subnormal_share = 0.0  # of the last measured gradients that are not 0
        self.zero_share = 0.0

    @property
    def measuring(self) -> bool:
        """True where the gradients of this step are to be given to `observe`."""
        return self.automatic and (self.applied < SETTLING or self._clean_steps % MEASURED_EVERY == 0)

    def observe(self, gradients: Ranges) -> None:
        """Choose the next step's scale from the ranges of this step's scaled gradients, all finite.

        Args:
            gradients: `numerics.Ranges` of all gradients. The largest one of the last measurements is put at
                2^13; what lies below 2^-14 then, where binary16 loses digits, and what is 0, is kept as
                `subnormal_share` and `zero_share`.

        >>> import numpy as np
        >>> from fp16engine import LossScale
        >>> from fp16engine.numerics import ranges
        >>> scaler = LossScaler(LossScale.from_histogram())
        >>> scaler.observe(ranges.of(np.array([2.0**-4], np.float16), "reference"))
        >>> scaler.scale
        32768.0
        """
        nonzero = gradients.values - gradients.zeros
        self.zero_share = gradients.share(gradients.zeros)
        self.subnormal_share = gradients.subnormal / nonzero if nonzero else 0.0
        span = gradients.exponent_range
        if span is None:  # nothing is left of the gradient: the scale is far too low
            self.scale = min(self.scale * 2.0**TOP_EXPONENT, self.cap)
            return
        exponent = math.frexp(self.scale)[1] - 1
        self._tops = [*self._tops[1 - WINDOW :], span[1] - exponent]
        target = math.ldexp(1.0, TOP_EXPONENT - max(self._tops))
        self.scale = min(max(target, self.floor), self.cap)

    @property
    def searching(self) -> bool:
        """True until the first applied step: overflows before it only find the start scale."""
        return self.applied == 0

    @property
    def at_floor(self) -> bool:
        """True where the scale cannot fall further."""
        return not self.dynamic or self.scale <= self.floor

    def update(self, finite: bool) -> None:
        """Account for one step.

        Args:
            finite: whether every gradient was finite, that is, applied.

        >>> from fp16engine import LossScale
        >>> scaler = LossScaler(LossScale(initial=4.0, interval=1))
        >>> scaler.update(finite=True)
        >>> scaler.scale
        8.0
        """
        if finite:
            self.applied += 1
            self._stuck_steps = 0
            self._clean_steps += 1
            if self.dynamic and not self.automatic and self._clean_steps >= self.interval:
                self.scale = min(self.scale * self.growth, self.cap)
                self._clean_steps = 0
            return
        self.skipped += 1
        self.search_skips += self.searching
        self._clean_steps = 0
        self._tops = []
        if self.at_floor:
            self._stuck_steps += 1
        else:
            self.scale = max(self.scale * self.backoff, self.floor)

    @property
    def diagnosis(self) -> str | None:
        """A sentence once `patience` steps in a row overflowed at the lowest scale, else None."""
        if self._stuck_steps < self.patience:
            return None
        where = f"its floor {self.floor:g}" if self.dynamic else f"the fixed value {self.scale:g}"
        when = "no step was ever applied" if self.searching else f"after {self.applied} applied steps"
        return (
            f"the loss scale is at {where} and {self._stuck_steps} steps in a row still overflowed ({when}): "
            "the gradients leave binary16; lower the learning rate, normalise the input or use fp32"
        )

    def summary(self) -> str | None:
        """Return one line on the skipped steps of the run, or on an automatic scale; None when there is none.

        >>> from fp16engine import LossScale
        >>> LossScaler(LossScale()).summary() is None
        True
        """
        if self.automatic and not self.skipped:
            return (
                f"loss scale {self.scale:g}, chosen from the histogram: no step skipped, "
                f"{100 * self.subnormal_share:.1f} % of the gradients have fewer digits (below 2^-14), "
                f"{100 * self.zero_share:.1f} % are 0"
            )
        if not self.skipped:
            return None
        total = self.applied + self.skipped
        later = self.skipped - self.search_skips
        expected = 2 + self.applied // self.interval
        if self.searching:
            verdict = "no step was applied"
        else:
            verdict = (
                "normal"
                if later <= 2 * expected
                else "more than loss scaling explains; try a lower learning rate"
            )
        found = f", {self.search_skips} of them while the start scale was found" if self.search_skips else ""
        return f"loss scale {self.scale:g}: {self.skipped} of {total} steps skipped{found} ({verdict})"

    def state_dict(self) -> dict[str, Any]:
        """Return the scale and the counts, as JSON numbers; of an automatic one what it has measured, too.

        >>> from fp16engine import LossScale
        >>> LossScaler(LossScale()).state_dict()["scale"]
        32768.0
        """
        measured = {
            "tops": list(self._tops),
            "subnormal_share": self.subnormal_share,
            "zero_share": self.zero_share,
        }
        return {
            "scale": self.scale,
            "applied": self.applied,
            "skipped": self.skipped,
            "search_skips": self.search_skips,
            "clean_steps": self._clean_steps,
            "stuck_steps": self._stuck_steps,
            **(measured if self.automatic else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Args:
            state: by name.

        Raises:
            TypeError: a value is no number.
            ValueError: an entry is missing or unknown, or a value is out of range.

        >>> from fp16engine import LossScale
        >>> scaler = LossScaler(LossScale())
        >>> scaler.load_state_dict({**scaler.state_dict(), "scale": 8.0})
        >>> scaler.scale
        8.0
        """
        counts = ("applied", "skipped", "search_skips", "clean_steps", "stuck_steps")
        measured = ("tops", "subnormal_share", "zero_share") if self.automatic else ()
        expected = {"scale", *counts, *measured}
        odd = sorted(expected ^ set(state))
        if odd:
            raise ValueError(
                f"scaler state must be entries {', '.join(sorted(expected))}, got {shown(odd)} too many or "
                "too few"
            )
        for key in counts:
            integer(f"scaler state: {key}", state[key], 0)
        scale = number("scaler state: scale", state["scale"], minimum=self.floor, maximum=self.cap)
        if math.frexp(scale)[0] != 0.5:
            raise ValueError(must_be("scaler state: scale", "a power of two", scale))
        if self.automatic:
            tops = state["tops"]
            if not isinstance(tops, list) or not all(isinstance(t, int) for t in tops):
                raise ValueError(must_be("scaler state: tops", "a list of exponents", tops))
            self._tops = list(tops)
            self.subnormal_share = float(state["subnormal_share"])
            self.zero_share = float(state["zero_share"])
        self.scale = scale
        self.applied, self.skipped, self.search_skips = (
            state["applied"],
            state["skipped"],
            state["search_skips"],
        )
        self._clean_steps, self._stuck_steps = state["clean_steps"], state["stuck_steps"]
