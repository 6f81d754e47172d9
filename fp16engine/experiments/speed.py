"""Which precision trains faster: steps of each taken in turn, so that a machine that slows down slows all.

The times of epochs say nothing about it: they were taken one run after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from .. import backend as backends
from ..bench.contender import Contender, measure
from ..errors import NonFiniteError
from ..train.captured import CapturedStep
from .report.labels import label
from .report.verdict import capital

if TYPE_CHECKING:
    from ..data import Dataset
    from ..train import Trainer

ROUNDS = 9  # at most one on the other side: by chance 20 times in 512, a two-sided sign test at 4 %
TURN_SECONDS = 0.15
MOST_SECONDS = 60.0  # a measurement that takes longer, and more than a tenth of the training, is left out
FLOOR = 0.03  # two runs of the same code differ by this much
BUSY = 0.25  # ratios that differ by more than this from round to round say nothing
_STEPS = 1_000_000  # that a schedule is laid out over: more than are taken
_NOT_FOR_SPEED = {"reference": "defines the results", "simt": "simulates a GPU"}


@dataclass(frozen=True)
class Speed:
    """The ratio of two training speeds; `spread`: half its interquartile range over its median."""

    ratio: float
    lowest: float
    highest: float
    spread: float
    rounds: int
    faster: int
    told_apart: bool

    @property
    def judged(self) -> bool:
        """Tell whether the rounds agree well enough to say anything about speed."""
        return self.spread <= BUSY


def compared(reference: Sequence[float], other: Sequence[float]) -> Speed | None:
    """Compare images per second of two contenders, round by round; None without at least two rounds.

    >>> compared([100.0] * 9, [150.0] * 9).ratio
    1.5
    """
    ratios = [b / a for a, b in zip(reference, other, strict=True)]
    if len(ratios) < 2:
        return None
    middle = median(ratios)
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    faster = sum(ratio > 1 for ratio in ratios)
    one_sided = min(faster, len(ratios) - faster) <= 1
    return Speed(
        ratio=middle,
        lowest=min(ratios),
        highest=max(ratios),
        spread=(high - low) / 2 / middle,
        rounds=len(ratios),
        faster=faster,
        told_apart=len(ratios) >= ROUNDS and one_sided and abs(middle - 1) > FLOOR,
    )


def sentence(speed: Speed, other: str, reference: str) -> str:
    """Say what the rounds say about two precisions."""
    name, base = label(other), label(reference)
    seen = f"{speed.lowest:.2f} to {speed.highest:.2f} in {speed.rounds} rounds of steps taken in turn"
    if not speed.judged:
        return f"Speed is not judged: the machine was busy, {name} against {base} gave {seen}."
    word = "about as fast"
    if speed.told_apart:  # by the number of rounds, so that is what it says
        ahead = speed.ratio > 1
        word = "faster" if ahead else "slower"
        seen = (
            f"in {speed.faster if ahead else speed.rounds - speed.faster} of {speed.rounds} rounds of steps "
            "taken in turn"
        )
    return f"{name} trains {word}: {speed.ratio:.2f} times the images per second of {base} ({seen})."


def judgement(
    rates: Mapping[str, Sequence[float]], other: str, reference: str
) -> tuple[list[str], dict[str, Any]]:
    """Return what the rounds say of two precisions: a sentence or none, and the figures behind it."""
    found = compared(rates.get(reference, []), rates.get(other, []))
    return [] if found is None else [capital(sentence(found, other, reference))], {
        "speed_ratio": found.ratio if found else None,
        "speed_spread": found.spread if found else None,
        "speed_judged": bool(found and found.judged),
    }


def unmeasured(device: str, seconds_per_step: Sequence[float], training_seconds: float) -> str | None:
    """Say why speed is not measured, or None where it can be."""
    kind = device.partition(":")[0]
    if kind in _NOT_FOR_SPEED:
        return f"device {device!r} {_NOT_FOR_SPEED[kind]} and is not made for speed"
    if len(seconds_per_step) < 2:
        return "it takes two finished runs"
    steps = [5 + ROUNDS * (1 + max(1.0, TURN_SECONDS / max(each, 1e-6))) for each in seconds_per_step]
    whole = sum(count * each for count, each in zip(steps, seconds_per_step, strict=True))
    if whole > max(MOST_SECONDS, training_seconds / 10):
        return f"it would take about {whole:,.0f} s; 'fp16engine bench step' measures it"
    return None


def rates(
    trainers: Mapping[str, Callable[[], Trainer]], dataset: Dataset, batch_size: int
) -> dict[str, list[float]]:
    """Return the images per second of each trainer in every round, all on one batch of the training images.

    Nothing where a step cannot continue with finite numbers, since the time of such a step is another.
    """
    part = dataset.limit(batch_size)
    contenders = []
    for name, make in trainers.items():
        trainer = make()
        trainer.set_total_steps(_STEPS)
        backend: Any = backends.get(trainer.device)
        labels = part.train.labels
        images = backend.from_numpy(part.normalised("train", trainer.precision.storage))
        step: Callable[[], object] = partial(trainer.train_batch, images, labels)
        if trainer.capture:
            step = CapturedStep.on_batch(trainer, images, labels).again
        stream = backend.stream if backend.capabilities.stream else None
        wait = (lambda: None) if stream is None else stream.synchronize
        contenders.append(Contender("fp16engine", name, len(labels), step, wait=wait))
    try:
        measure(contenders, ROUNDS, TURN_SECONDS, lambda text: None)
    except NonFiniteError:
        return {}
    return {contender.precision: contender.rates for contender in contenders}
