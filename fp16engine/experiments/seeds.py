"""What several seeds say together: a paired comparison over seeds and test images, and its words.

Every seed trains both networks from the same weights on the same batches, and all seeds classify the same
images, so seeds and images cross. The variance of the mean difference is estimated as Owen (2007, "The
pigeonhole bootstrap") does for crossed samples: that of the seeds' means plus that of the images' means,
which never is too small. The seeds' part has Student's t with S - 1 degrees of freedom; the two half widths
add in quadrature (Graybill and Wang 1980).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import speed
from .report import verdict
from .report.labels import label

Right = NDArray[np.bool_]
_MOST_SEEDS = 100  # that a sentence asks for


@dataclass(frozen=True)
class Crossed:
    """Paired comparison of S seeds on the same N images; all but the counts are percentage points."""

    test_images: int
    per_seed: tuple[float, ...]  # accuracy of the other minus the reference's
    points: float  # their mean
    seed_half: float  # half of a 95 % interval that new seeds alone would need
    image_half: float  # the same for new images

    @property
    def half(self) -> float:
        """Half of the 95 % interval for new seeds and new images."""
        return math.hypot(self.seed_half, self.image_half)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.points - self.half, self.points + self.half

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        low, high = self.interval
        return {
            "test_images": self.test_images,
            "per_seed_points": list(self.per_seed),
            "points": self.points,
            "low_points": low,
            "high_points": high,
        }


def crossed(reference_right: Right, other_right: Right) -> Crossed:
    """Compare which images two models get right; both arrays are (S, N) booleans, S >= 2.

    >>> left = np.ones((3, 400), bool)
    >>> right = left.copy()
    >>> right[:, :40] = False
    >>> result = crossed(left, right)
    >>> round(result.points, 2), result.interval[1] < 0
    (-10.0, True)
    """
    difference = other_right.astype(np.float64) - reference_right
    seeds, images = difference.shape
    by_seed, by_image = difference.mean(axis=1), difference.mean(axis=0)
    residual = difference - by_seed[:, None] - by_image[None, :] + difference.mean()
    noise = float((residual**2).sum()) / max((seeds - 1) * (images - 1), 1)
    # seeds that agree by chance still carry the noise of their images
    seed_variance = max(float(by_seed.var(ddof=1)), noise / images) / seeds
    # half a count more in either direction, as Agresti and Min (2005): never an interval of width 0
    image_variance = (float(by_image.var()) * images + 1) / (images + 2) ** 2
    return Crossed(
        test_images=images,
        per_seed=tuple(100 * float(value) for value in by_seed),
        points=100 * float(by_seed.mean()),
        seed_half=100 * t_quantile(seeds - 1) * seed_variance**0.5,
        image_half=100 * verdict.Z95 * image_variance**0.5,
    )


@cache
def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t (Abramowitz and Stegun 26.7.3 and 26.7.4, bisected).

    >>> [round(t_quantile(n), 3) for n in (1, 2, 4, 30)]
    [12.706, 4.303, 2.776, 2.042]
    """
    low, high = 1.0, 13.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 0.95 else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Return the probability that |T| is below t."""
    angle = math.atan(t / freedom**0.5)
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k - 1) / k
    part = math.sin(angle) * total
    return 2 / math.pi * (angle + part) if odd else part


def verdicts(
    runs: Sequence[dict[str, Any]],
    right: Mapping[tuple[str, int], Right],
    reference: str,
    frequent: float,
    rates: Mapping[str, Sequence[float]],
) -> list[dict[str, Any]]:
    """Return one verdict per precision other than the reference, over all seeds.

    runs: all of them; right: which images each finished one gets right, by precision and seed; frequent: the
    share of the most frequent class of the test images; rates: images per second of each precision, round by
    round.
    """
    result = []
    for name in dict.fromkeys(run["precision"] for run in runs):
        failed = [run for run in runs if run["precision"] == name and run["status"] == "failed"]
        seeds = [seed for (one, seed) in right if one == name and (reference, seed) in right]
        if failed:
            result.append(_failure(name, failed, sum(run["precision"] == name for run in runs)))
        elif name != reference and len(seeds) > 1:
            pair = [
                [run for run in runs if run["precision"] == one and run["seed"] in seeds]
                for one in (reference, name)
            ]
            found = crossed(*(np.stack([right[one, seed] for seed in seeds]) for one in (reference, name)))
            result.append(_verdict(name, reference, pair[0], pair[1], found, frequent, rates))
    return result


def _failure(name: str, failed: Sequence[dict[str, Any]], count: int) -> dict[str, Any]:
    text = f"{label(name)} failed with {len(failed)} of {count} seeds: {failed[0]['error']}"
    return {
        "precision": name,
        "reference": None,
        "outcome": "failed",
        "headline": verdict.capital(text),
        "sentences": [],
    }


def _verdict(
    name: str,
    base: str,
    reference: Sequence[dict[str, Any]],
    other: Sequence[dict[str, Any]],
    found: Crossed,
    frequent: float,
    rates: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    names = label(name), label(base)
    means = [mean(run["test_accuracy"] for run in runs) for runs in (other, reference)]
    outcome, headline = _headline(*names, max(means), found, frequent)
    low, high = found.interval
    shares = ", ".join(verdict.signed(points) for points in found.per_seed)
    merged = [_merged(runs) for runs in (reference, other)]
    said, measured = speed.judgement(rates, name, base)
    text = (
        f"On the mean of {len(other)} seeds {names[0]} classifies {verdict.percent(means[0])} of the "
        f"{found.test_images:,} test images correctly, {names[1]} {verdict.percent(means[1])}: "
        f"{verdict.signed(found.points)} points (by seed: {shares}). For other seeds and other images the "
        f"difference lies between {verdict.signed(low)} and {verdict.signed(high)} points (95 % interval)."
    )
    costs = verdict.costs(names[1], *merged)
    return {
        "precision": name,
        "reference": base,
        "outcome": outcome,
        "headline": verdict.capital(headline),
        "sentences": [verdict.capital(line) for line in [text, *costs, *said]],
        "points": found.points,
        "accuracy": found.to_dict(),
        **measured,
        "memory_ratio": verdict.memory_ratio(*merged),
    }


def _headline(other: str, reference: str, best: float, found: Crossed, frequent: float) -> tuple[str, str]:
    seeds = len(found.per_seed)
    low, high = found.interval
    if verdict.hardly_learned(best, frequent, found.test_images):
        return "not_learned", verdict.not_learned(frequent)
    if low > 0 or high < 0:
        outcome = "better" if low > 0 else "worse"
        return (
            outcome,
            f"{other} was {outcome} than {reference}, by {abs(found.points):.1f} points over {seeds} seeds.",
        )
    if found.half > verdict.WIDE_POINTS:
        return (
            "undecided",
            f"No verdict: {seeds} seeds and {found.test_images:,} test images leave ±{found.half:.1f} "
            f"points; {_enough(found)}.",
        )
    return (
        "as_good",
        f"{other} was as good as {reference}: {verdict.signed(found.points)} ± {found.half:.1f} points over "
        f"{seeds} seeds.",
    )


def _enough(found: Crossed) -> str:
    """Say how many images, or else seeds, would narrow the interval enough."""
    wide, seeds = verdict.WIDE_POINTS, len(found.per_seed)
    if found.image_half >= wide:
        return f"about {verdict.images_needed(found.test_images, found.half):,} test images would do"
    deviation = found.seed_half * seeds**0.5 / t_quantile(seeds - 1)
    for count in range(seeds + 1, _MOST_SEEDS + 1):
        if math.hypot(t_quantile(count - 1) * deviation / count**0.5, found.image_half) <= wide:
            return f"about {count} seeds would do"
    return f"more than {_MOST_SEEDS} seeds would be needed"


def _merged(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the runs of one precision as one: all steps that were not finite, the highest peak."""
    peaks = [run["peak_memory_bytes"] for run in runs if run["peak_memory_bytes"]]
    return {
        "nonfinite_steps": sum(run["nonfinite_steps"] or 0 for run in runs),
        "peak_memory_bytes": max(peaks, default=None),
    }
