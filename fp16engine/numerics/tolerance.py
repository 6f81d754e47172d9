"""How far apart two models' predictions are, and for how many samples that proves the same class.

The definitions are those of the standalone FP16 study (arXiv 2305.10947, section 3), in two forms where
the printed one is not safe: see `gamma_paper` and `gamma_sound`. Everything is computed in float64.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Tolerance:
    """Result of `analyse`: one comparison of a model with its reference over N samples.

    Means and the maximum are over the samples whose probabilities are finite in both models; the shares are
    over all N samples, and a sample with a NaN or an infinity counts as neither guaranteed nor agreeing.
    Where no sample is finite in both, means and the maximum are None and the shares nan; everywhere else
    `guaranteed_share <= agreement` holds.

    Args:
        reference: name of the reference's precision.
        other: name of the other's precision.
        samples: N.
        nonfinite_samples: those with a NaN or an infinity in either model.
        delta_mean: mean of `delta`.
        delta_std: its standard deviation.
        delta_max: its maximum.
        gamma_mean: mean of the paper's Gamma of the reference, `gamma_paper`.
        gamma_std: its standard deviation.
        gamma_sound_mean: mean of `gamma_sound` of the reference.
        guaranteed_share: sound form: share with gamma_sound > 2 delta.
        paper_share: as printed: share with gamma_paper >= 2 delta; no bound, shown for comparison.
        agreement: share for which both choose the same class.

    >>> analyse([[0.75, 0.25]], [[0.5, 0.5]]).agreement
    1.0
    """

    reference: str
    other: str
    samples: int
    nonfinite_samples: int
    delta_mean: float | None
    delta_std: float | None
    delta_max: float | None
    gamma_mean: float | None  # the paper's Gamma of the reference
    gamma_std: float | None
    gamma_sound_mean: float | None
    guaranteed_share: float  # sound form: gamma_sound > 2 delta
    paper_share: float  # as printed: gamma_paper >= 2 delta; no bound, shown for comparison
    agreement: float

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON values (the `tolerance` entry of summary.json); nan becomes None.

        >>> analyse([[0.75, 0.25]], [[0.5, 0.5]]).to_dict()["delta_max"]
        0.25
        """
        shares = {name: getattr(self, name) for name in ("guaranteed_share", "paper_share", "agreement")}
        return asdict(self) | {name: None if math.isnan(n) else n for name, n in shares.items()}


def _probabilities(p: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(p)
    if array.ndim != 2 or array.shape[1] < 2:
        raise ValueError(f"{name} must be of shape (N, classes) with at least 2 classes, got {array.shape}")
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise TypeError(f"{name} must be a floating-point array, got {array.dtype}")
    return array.astype(np.float64)


def _pair(p: ArrayLike, q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = _probabilities(p, "p"), _probabilities(q, "q")
    if first.shape != second.shape:
        raise ValueError(f"q must be of shape {first.shape} as p is, got {second.shape}")
    return first, second


def delta(p: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Return the largest difference of two probability vectors, per sample.

        delta(x) = max over c of |p_c(x) - q_c(x)|

    Args:
        p: (N, classes), float16, float32 or float64, converted to float64 exactly; at least two classes.
        q: those of the other model, shape of p, float16, float32 or float64.

    Returns:
        (N,), float64; NaN where a sample has a NaN.

    Raises:
        ValueError: the shapes are not (N, classes), or differ.
        TypeError: an array holds no numbers.

    Source:
        arXiv 2305.10947, section 3.

    >>> delta([[0.75, 0.25]], [[0.5, 0.5]])
    array([0.25])
    """
    first, second = _pair(p, q)
    with np.errstate(invalid="ignore"):
        return np.abs(first - second).max(axis=1)


def gamma_paper(p: ArrayLike) -> NDArray[np.float64]:
    """Return the largest probability minus the largest *different* one, per sample, as the study prints it.

        Gamma(x) = max over c of p_c(x) - max over {c: p_c(x) < max p(x)} of p_c(x)

    A tie of the largest values is skipped over, so this Gamma is no basis for a guarantee: for (0.5, 0.5, 0)
    it is 0.5, although the smallest disturbance can flip the class.

    Args:
        p: (N, classes), float16, float32 or float64; at least two classes.

    Returns:
        (N,), float64; 0 where all probabilities are equal, NaN where one is NaN.

    Raises:
        ValueError: the shape is not (N, classes).
        TypeError: the array holds no numbers.

    Source:
        arXiv 2305.10947, section 3.

    >>> gamma_paper([[0.5, 0.5, 0.0]])
    array([0.5])
    """
    array = _probabilities(p, "p")
    top = array.max(axis=1)
    below = np.where(array < top[:, None], array, -np.inf).max(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(np.isnan(top), np.nan, np.where(np.isneginf(below), 0.0, top - below))


def gamma_sound(p: ArrayLike) -> NDArray[np.float64]:
    """Return the largest probability minus the second largest in sorted order, per sample; 0 for a tie.

    With this Gamma, gamma > 2 delta (strictly) proves that both models choose the same class.

    Args:
        p: (N, classes), float16, float32 or float64; at least two classes.

    Returns:
        (N,), float64; NaN where a sample has a NaN.

    Raises:
        ValueError: the shape is not (N, classes).
        TypeError: the array holds no numbers.

    Source:
        arXiv 2305.10947, section 3, made safe for ties.

    >>> gamma_sound([[0.5, 0.5, 0.0]])
    array([0.])
    """
    array = _probabilities(p, "p")
    two = np.partition(array, -2, axis=1)[:, -2:]
    with np.errstate(invalid="ignore"):
        return np.where(np.isnan(array).any(axis=1), np.nan, two[:, 1] - two[:, 0])


def analyse(p_ref: ArrayLike, p_other: ArrayLike, reference: str = "fp32", other: str = "fp16") -> Tolerance:
    """Compare a model's probabilities with its reference's: delta, Gamma, guaranteed share, agreement.

    Args:
        p_ref: the reference's, (N, classes), float16, float32 or float64, N >= 1, at least two classes. The
            predicted class is `np.argmax` (the first of equal values).
        p_other: the other's, shape of p_ref, float16, float32 or float64.
        reference: name of the reference's precision.
        other: name of the other's precision.

    Everything is computed in float64.

    Raises:
        ValueError: the shapes are not (N, classes), differ, or there is no sample.
        TypeError: an array holds no numbers.

    Source:
        arXiv 2305.10947, section 3.

    >>> found = analyse([[0.75, 0.25], [0.6, 0.4]], [[0.7, 0.3], [0.4, 0.6]])
    >>> found.guaranteed_share, found.agreement
    (0.5, 0.5)
    """
    # If the classes differ, some j has q_j >= q_i at i = argmax p, hence p_i - p_j <= 2 delta. Rounding is
    # monotone and doubling exact, so the strict test on float64 values is as safe as on exact ones.
    p, q = _pair(p_ref, p_other)
    if len(p) == 0:
        raise ValueError("p_ref must be at least 1 sample, got none")
    finite = np.isfinite(p).all(axis=1) & np.isfinite(q).all(axis=1)
    p_ok, q_ok = p[finite], q[finite]
    d, paper, sound = delta(p_ok, q_ok), gamma_paper(p_ok), gamma_sound(p_ok)

    def share(mask: NDArray[np.bool_]) -> float:
        return float(np.count_nonzero(mask)) / len(p) if len(mask) else math.nan

    def statistic(values: NDArray[np.float64], name: str) -> float | None:
        return float(getattr(values, name)()) if len(values) else None

    return Tolerance(
        reference=reference,
        other=other,
        samples=len(p),
        nonfinite_samples=int(len(p) - np.count_nonzero(finite)),
        delta_mean=statistic(d, "mean"),
        delta_std=statistic(d, "std"),
        delta_max=statistic(d, "max"),
        gamma_mean=statistic(paper, "mean"),
        gamma_std=statistic(paper, "std"),
        gamma_sound_mean=statistic(sound, "mean"),
        guaranteed_share=share(sound > 2 * d),
        paper_share=share(paper >= 2 * d),
        agreement=share(p_ok.argmax(axis=1) == q_ok.argmax(axis=1)),
    )
