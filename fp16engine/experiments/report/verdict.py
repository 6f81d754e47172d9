"""What a comparison of two runs says, with the uncertainty that belongs to it, in plain words.

Both networks classify the same test images, so their accuracies are compared pair by pair: only images
that exactly one of the two gets right tell them apart (McNemar 1947). The interval is Agresti and Min's
(2005, half a count added to each cell), which stays honest for small and for perfect results.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import MINUS, label

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
WIDE_POINTS = 2.0  # an interval that reaches further than this from its middle decides nothing
WOBBLES = 2.0  # a difference below this many epoch-to-epoch moves of the accuracy decides nothing either
MORE_SEEDS = "--seeds 5 --resume"
_KINDS = {"as_good": "equal", "better": "better", "worse": "worse"}  # of outcomes; all others are "none"


@dataclass(frozen=True)
class Paired:
    """Paired comparison of two classifiers on the same N images; points are percentage points."""

    test_images: int
    only_reference_right: int
    only_other_right: int
    points: float  # accuracy of the other minus the reference's
    low_points: float  # 95 % interval
    high_points: float
    p_value: float  # exact McNemar test, two-sided

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def paired(reference_right: NDArray[np.bool_], other_right: NDArray[np.bool_]) -> Paired:
    """Compare which images two models get right; both arrays are (N,) booleans, N >= 1.

    >>> result = paired(np.array([True, True, False]), np.array([True, False, False]))
    >>> result.only_reference_right, result.only_other_right
    (1, 0)
    """
    if reference_right.shape != other_right.shape or reference_right.ndim != 1 or len(other_right) == 0:
        raise ValueError(
            f"other_right must be of shape {reference_right.shape} as reference_right is, (N,) with N >= 1, "
            f"got {other_right.shape}"
        )
    n = len(reference_right)
    lost = int(np.count_nonzero(reference_right & ~other_right))
    won = int(np.count_nonzero(other_right & ~reference_right))
    centre = (won - lost) / (n + 2)
    spread = (won + lost + 1 - (won - lost) ** 2 / (n + 2)) ** 0.5 / (n + 2)
    return Paired(
        test_images=n,
        only_reference_right=lost,
        only_other_right=won,
        points=100 * (won - lost) / n,
        low_points=100 * (centre - Z95 * spread),
        high_points=100 * (centre + Z95 * spread),
        p_value=_sign_test(lost, won),
    )


def _sign_test(lost: int, won: int) -> float:
    total, fewer = lost + won, min(lost, won)
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / 2**total)


def wobble(accuracies: Sequence[float | None]) -> float | None:
    """Return how many points an accuracy moves from epoch to epoch: the mean over the later half of a run.

    None with fewer than three epochs in that half.
    """
    late = [a for a in accuracies[len(accuracies) // 2 :] if a is not None]
    if len(late) < 3:
        return None
    return 100 * sum(abs(b - a) for a, b in pairwise(late)) / (len(late) - 1)


def sentences(
    reference: dict[str, Any], other: dict[str, Any], accuracy: Paired, frequent: float
) -> tuple[str, str, list[str]]:
    """Put one comparison into words.

    reference, other: two entries of `runs` that finished; frequent: share of the most frequent class of the
    test images, the accuracy of always naming it. Returns (outcome, headline, further sentences); outcome is
    "as_good", "one_seed" (the images tell the two apart, but another seed may not), "unsettled" (the accuracy
    still moves too much), "undecided" (too few test images) or "not_learned". One seed never says "better" or
    "worse".
    """
    names = label(other["precision"]), label(reference["precision"])
    points = 100 * (other["test_accuracy"] - reference["test_accuracy"])
    moves = [wobble([row["test_accuracy"] for row in run["history"]]) for run in (reference, other)]
    move = max((m for m in moves if m is not None), default=None)
    outcome, headline = _headline(*names, reference, other, accuracy, frequent, move)
    text = (
        f"{names[0]} classifies {percent(other['test_accuracy'])} of the {accuracy.test_images:,} test "
        f"images correctly, {names[1]} {percent(reference['test_accuracy'])}: {signed(points)} points. "
        f"Judged image by image, the difference lies between {signed(accuracy.low_points)} and "
        f"{signed(accuracy.high_points)} points (95 % interval for a test set of this size)."
    )
    if outcome == "unsettled":
        cure = "More epochs" if other.get("schedule") == "cosine" else "More epochs or --schedule cosine"
        text += f" {cure} would settle it."
    if outcome in ("as_good", "one_seed"):
        text += f" How far another seed moves it was not measured: {MORE_SEEDS} does that."
    return outcome, capital(headline), [capital(line) for line in [text, *costs(names[1], reference, other)]]


def _headline(
    other_name: str,
    reference_name: str,
    reference: dict[str, Any],
    other: dict[str, Any],
    accuracy: Paired,
    frequent: float,
    move: float | None,
) -> tuple[str, str]:
    best = max(reference["test_accuracy"], other["test_accuracy"])
    n = f"{accuracy.test_images:,}"
    told_apart = accuracy.low_points > 0 or accuracy.high_points < 0
    if hardly_learned(best, frequent, accuracy.test_images):
        return "not_learned", not_learned(frequent)
    if move is not None and (abs(accuracy.points) <= WOBBLES * move if told_apart else move > WIDE_POINTS):
        return "unsettled", f"No verdict yet: accuracy still moves by {move:.1f} points from epoch to epoch."
    if told_apart:
        return (
            "one_seed",
            f"No difference can be told from one seed: {other_name} ended at {signed(accuracy.points)} "
            f"points against {reference_name}.",
        )
    half = (accuracy.high_points - accuracy.low_points) / 2
    if half > WIDE_POINTS:
        return (
            "undecided",
            f"No verdict: {n} test images are too few to tell {other_name} from {reference_name}; "
            f"about {images_needed(accuracy.test_images, half):,} would do.",
        )
    return (
        "as_good",
        f"{other_name} was as good as {reference_name}, within what one seed and {n} test images can tell.",
    )


def hardly_learned(accuracy: float, frequent: float, images: int) -> bool:
    """Tell whether an accuracy is not clearly above that of always naming the most frequent class.

    accuracy: over `images` test images; frequent: the share of that class among them. Clearly is more than
    the 95 % interval of such a share, and a tenth of the way to 1, or twice the share where that is less.

    >>> hardly_learned(0.721, 0.5, 1000), hardly_learned(0.95, 0.95, 1500), hardly_learned(0.15, 0.1, 10000)
    (False, True, True)
    """
    by_luck = Z95 * math.sqrt(frequent * (1 - frequent) / images)
    return accuracy <= frequent + max(by_luck, min(frequent, (1 - frequent) / 10))


def not_learned(frequent: float) -> str:
    """Return the headline of runs that did not learn."""
    return (
        "No verdict: neither run learned clearly more than to name the most frequent class, which is right "
        f"for {percent(frequent)}; train longer."
    )


def images_needed(images: int, half: float) -> int:
    """Return how many test images narrow an interval of ± `half` points to `WIDE_POINTS`, two digits long.

    >>> images_needed(100, 5.0)
    630
    """
    needed = images * (half / WIDE_POINTS) ** 2
    step = 10 ** max(0, math.floor(math.log10(needed)) - 1)
    return step * math.ceil(needed / step)


def short(verdicts: Sequence[dict[str, Any]], seeds: int) -> dict[str, Any]:
    """Return the main verdict as a program reads it: kind, difference and interval as shares, seeds.

    The main one is FP16's if there is one, else the first. Kind is "equal", "better", "worse" or "none".
    """
    found = main(verdicts) or {}
    judged = found.get("accuracy")
    return {
        "kind": _KINDS.get(found.get("outcome", ""), "none"),
        "precision": found.get("precision"),
        "reference": found.get("reference"),
        "difference": judged and judged["points"] / 100,
        "interval": judged and [judged["low_points"] / 100, judged["high_points"] / 100],
        "seeds": seeds,
    }


def main(verdicts: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the verdict that comes first."""
    return next((v for v in verdicts if v["precision"] == "fp16"), verdicts[0] if verdicts else None)


def capital(text: str) -> str:
    """Start a sentence: "mixed precision" -> "Mixed precision"."""
    return text[:1].upper() + text[1:]


def costs(reference_name: str, reference: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Say what the other run took of memory against the reference's, and which of its steps were lost."""
    result = []
    ratio = memory_ratio(reference, other)
    if ratio is not None:
        result.append(f"At its peak it held {ratio:.2f} times the memory of {reference_name}.")
    bad = other.get("nonfinite_steps") or 0
    if bad:
        what = (
            "step met a non-finite loss or gradient and was"
            if bad == 1
            else "steps met non-finite losses or gradients and were"
        )
        result.append(f"{bad} {what} not applied.")
    return result


def memory_ratio(reference: dict[str, Any], other: dict[str, Any]) -> float | None:
    """Return the other run's peak memory over the reference's, None where one is not known."""
    if not (reference.get("peak_memory_bytes") and other.get("peak_memory_bytes")):
        return None
    return float(other["peak_memory_bytes"] / reference["peak_memory_bytes"])


def percent(share: float) -> str:
    """0.9722 -> "97.2 %"."""
    return f"{100 * share:.1f} %"


def signed(points: float) -> str:
    """1.23 -> "+1.2", 0.0 -> "0.0"; negative numbers get a minus sign, not a hyphen."""
    text = f"{abs(points):.1f}"
    return text if text == "0.0" else ("+" if points > 0 else MINUS) + text
