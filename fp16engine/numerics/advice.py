"""From what the monitor saw to one line each: the layer, what is wrong, how much of it, and what to do."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..floats import is_sixteen_bit
from .ranges import LOWEST, percent
from .stagnation import FORGIVING
from .words import range_of

if TYPE_CHECKING:
    from .monitor import Row, Sample
    from .protocols import TrainingView

PATIENCE = 3  # samples in a row that show a slow fault before it is reported
LOST_SHARE = 0.9  # of nonzero updates lost, and
LOST_SIZE_SHARE = 0.5  # of the sum of their sizes
FEW = 32  # a layer with fewer nonzero updates is not judged
LEARNED = 0.05  # of the loss by chance: a network that far has small gradients, and little left to update
TAIL_LR = 0.05  # of the run's learning rate: below it, a schedule is ending and updates may well be lost
UNDERFLOW_SHARE = 0.5  # of the nonzero values that an operation makes 0, and
UNDERFLOW_SIZE = 0.01  # of the sum of what it keeps: a few large values can make many tiny ones irrelevant
OFF_SHARE = 0.05  # of the channels of a norm layer
VARIANCE_LIMIT = 65504.0  # of a running variance in binary16: a standard deviation of 256
VARIANCE_NEAR = VARIANCE_LIMIT / 4  # a standard deviation of 128: reported before it breaks
TOP_EXPONENT = 13  # where a chosen loss scale puts the largest gradient: 2^13 to 2^14, 2^16 being infinite

OVERFLOW = "overflow"
NEAR = "near the largest number"
UNDERFLOW = "underflow"
STAGNATION = "lost updates"
RUNNING = "running statistics do not move"
VARIANCE = "running variance near the largest number"
CONSTANT = "a number that is 0 in binary16"


@dataclass(frozen=True)
class Finding:
    """One fault: where, what, how much of it, and the remedy; `text` says it in a line."""

    step: int
    layer: str
    kind: str
    problem: str
    share: float
    remedy: str
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def rounded_up(value: float) -> str:
    """Return a number with one digit, not below the value: 2.31e-4 -> "3e-04"."""
    exponent = math.floor(math.log10(value))
    digit = math.ceil(value / 10**exponent - 1e-9)
    return f"{digit * 10**exponent:.0e}" if value < 0.01 else f"{digit * 10**exponent:.{max(0, -exponent)}f}"


class FindingFilter:
    """Turns samples into findings; what is slow to show (lost updates, underflow) has to last."""

    def __init__(self) -> None:
        self._streaks: dict[tuple[str, str, str], int] = {}

    def findings(self, sample: Sample, run: TrainingView) -> list[Finding]:
        """Return what this sample shows, a 16-bit stored type provided."""
        storage = run.precision.storage
        if not is_sixteen_bit(storage):
            return []
        found = [*_constants(sample), *_variances(sample)]
        overflow = _overflow(sample, storage)
        if overflow is not None:
            return [*found, overflow]  # what comes after an infinity says nothing about its own layer
        if storage == "float16":
            found += _near(sample)
        lasting = [*_running(sample)]
        if sample.loss is None or sample.chance is None or sample.loss > LEARNED * sample.chance:
            lasting += [*_underflow(sample), *_lost(sample, run)]
        keys = {(f.layer, f.kind, f.problem) for f in lasting}
        self._streaks = {key: self._streaks.get(key, 0) + 1 for key in keys}
        return found + [f for f in lasting if self._streaks[f.layer, f.kind, f.problem] >= PATIENCE]


def _constants(sample: Sample) -> list[Finding]:
    return [
        Finding(
            sample.step,
            one.layer,
            "activations",
            CONSTANT,
            1.0,
            one.remedy,
            f"{one.layer}: {one.in_words()}; {one.remedy}",
        )
        for one in dict.fromkeys(sample.constants)
    ]


def _overflow(sample: Sample, storage: str) -> Finding | None:
    """The first activations, then the first gradients, that are not finite."""
    for kind in ("activations", "activation gradients", "gradients"):
        for row in sample.rows:
            if row.kind == kind and not row.ranges.finite:
                if kind != "activations" and sample.loss_scale > 1:
                    return None  # the loss scaler's business
                return _overflow_of(row, sample, storage)
    return None


def _overflow_of(row: Row, sample: Sample, storage: str) -> Finding:
    ranges = row.ranges
    if row.kind == "activations":
        remedy = "normalise or scale down what this layer takes in, or train with precision 'fp32'"
    else:
        remedy = "lower the learning rate, clip the gradient, or train with precision "
        remedy += "'mp'" if storage == "float16" else "'fp32'"
    share = ranges.share(ranges.inf + ranges.nan)
    what = f"{ranges.inf:,} infinite, {ranges.nan:,} NaN of {ranges.values:,}"
    text = f"{row.layer}: {row.kind} leave {range_of(storage)[:-1]}: {what}); {remedy}"
    return Finding(sample.step, row.layer, row.kind, OVERFLOW, share, remedy, text)


def _near(sample: Sample) -> list[Finding]:
    kinds = ["activations", "weights"]
    if sample.loss_scale == 1:
        kinds += ["activation gradients", "gradients"]
    result = []
    for row in sample.rows:
        if row.kind in kinds and row.ranges.near_max:
            share = row.ranges.share(row.ranges.near_max)
            remedy = "scale this layer's input or weights down before it overflows"
            text = f"{row.layer}: {percent(share)} of {row.kind} are within a factor 2 of 65504; {remedy}"
            result.append(Finding(sample.step, row.layer, row.kind, NEAR, share, remedy, text))
    return result[:1]


def loss_scale(top: int) -> float:
    """Return the power of two that moves gradients whose largest exponent is `top` up to 2^13.

    At least 1 and at most 2^15, the largest power of two in binary16.

    >>> loss_scale(-12)
    32768.0
    """
    return 2.0 ** min(max(TOP_EXPONENT - top, 0), 15)


def _underflow(sample: Sample) -> list[Finding]:
    """The first layer of the backward pass that makes most of the gradient 0, and of the forward pass."""
    result = []
    for kinds in (("activation gradients", "gradients"), ("activations",)):
        rows = [row for row in sample.rows if row.kind in kinds and _underflows(row)]
        if not rows:
            continue
        row = rows[0]
        if row.kind == "activations":
            remedy = "scale this layer's input or weights up"
        else:
            remedy = f"use a loss scale ({_wanted_scale(sample)}: precision 'mp')"
        text = f"{row.layer}: {percent(row.underflow)} of {row.kind} underflow to 0 (below 2^-25); {remedy}"
        result.append(Finding(sample.step, row.layer, row.kind, UNDERFLOW, row.underflow, remedy, text))
    return result


def _underflows(row: Row) -> bool:
    """Whether most of a layer's values become 0, and together are no trifle against those that are kept."""
    kept = sum(n * 2.0**e for e, n in enumerate(row.ranges.exponents, LOWEST))
    return row.underflow >= UNDERFLOW_SHARE and row.underflowed * 2.0**-25 >= UNDERFLOW_SIZE * kept


def _wanted_scale(sample: Sample) -> str:
    tops = [
        row.ranges.exponent_range[1]
        for row in sample.rows
        if row.kind == "activation gradients" and row.ranges.exponent_range
    ]
    return f"{loss_scale(max(tops)) * sample.loss_scale:g}" if tops else "32768"


def _lost(sample: Sample, run: TrainingView) -> list[Finding]:
    if run.optimizer.update in FORGIVING or sample.lr < TAIL_LR * run.base_lr:
        return []
    result = []
    for row in sample.updates:
        lost_size = row.lost_size / row.size if row.size else 1.0
        # A norm's scale starts at 1, where the gaps are wide, and often stands still; the weights around it
        # take over what it would do. Its row tells, but nobody is alarmed.
        if not row.matrix or row.nonzero < FEW or row.share < LOST_SHARE or lost_size < LOST_SIZE_SHARE:
            continue
        factor = row.factor()
        remedy = "use update='stochastic'"
        if factor is not None and math.isfinite(factor):
            remedy += f" or lr >= {rounded_up(sample.lr * factor)}"
        text = f"{row.layer}: {percent(row.share)} of updates lost; {remedy}"
        result.append(Finding(sample.step, row.layer, "weights", STAGNATION, row.share, remedy, text))
    return result


def variance_in_words(largest: float) -> str:
    """What a plain running variance so large does, in words."""
    verb = "is beyond" if largest > VARIANCE_LIMIT else "comes near"
    return f"a variance of {largest:.3g} {verb} 65504, the largest number of plain FP16 statistics"


def _variances(sample: Sample) -> list[Finding]:
    """Norms whose running variance is stored in binary16 and leaves it, or is about to."""
    remedy = "use statistics='native'"
    result = []
    for row in sample.running:
        if row.plain and not row.largest_var < VARIANCE_NEAR:
            text = f"{row.layer}: {variance_in_words(row.largest_var)}; {remedy}"
            result.append(Finding(sample.step, row.layer, "running variance", VARIANCE, 1.0, remedy, text))
    return result


def _running(sample: Sample) -> list[Finding]:
    result = []
    for row in sample.running:
        for what, off in (("mean", row.mean_off), ("variance", row.var_off)):
            share = off / row.channels if row.channels else 0.0
            if share < OFF_SHARE:
                continue
            remedy = "use a smaller momentum (0.9), FP32 statistics (precision 'mp'), or centre its input"
            text = (
                f"{row.layer}: the running {what} of {percent(share)} of the channels does not move, "
                f"though the batches' is elsewhere; {remedy}"
            )
            result.append(Finding(sample.step, row.layer, f"running {what}", RUNNING, share, remedy, text))
    return result
