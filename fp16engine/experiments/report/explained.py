"""δ and Γ on two test images of the run: which ones, how they are drawn, and what they show in words.

The drawing needs matplotlib (extra `report`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray

from .labels import label, scientific, style
from .plots import FLOOR, INK, themed
from .verdict import capital

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .page_plots import Scatter

_MOST_CLASSES = 5
_LETTERS = 56  # that fit beside each other under the bars
_GAMMA = "#009E73"


@dataclass(frozen=True)
class Example:
    """A test image: the probabilities (K,) of the reference and of the other, and how far they are apart."""

    index: int
    reference: str
    other: str
    p: NDArray[np.floating[Any]]
    q: NDArray[np.floating[Any]]
    delta: float
    gamma: float

    @property
    def guaranteed(self) -> bool:
        """Whether both must choose the same class."""
        return self.gamma > 2 * self.delta

    @property
    def order(self) -> list[int]:
        """The classes, the reference's most probable first."""
        return [int(i) for i in np.argsort(-self.p, kind="stable")]

    @property
    def shown(self) -> list[int]:
        """The classes drawn: the reference's most probable, and the one that δ was measured at."""
        first = self.order[:_MOST_CLASSES]
        return first if self.furthest in first else [*first[:-1], self.furthest]

    @property
    def furthest(self) -> int:
        """The class whose probability differs most."""
        return int(np.abs(self.p - self.q).argmax())


def choose(scatter: Scatter) -> list[Example]:
    """Return the image whose guarantee is the narrowest, and one without a guarantee, where there are such.

    The second is the one furthest apart of those given another class, or else of all without a guarantee.
    """
    delta, gamma = scatter.delta, scatter.gamma
    known = np.isfinite(delta) & np.isfinite(gamma)
    safe = known & (gamma > 2 * delta)
    unsafe = known & ~safe
    if (unsafe & ~scatter.agree).any():
        unsafe &= ~scatter.agree
    found = []
    if safe.any():
        found.append(int(np.where(safe, delta / np.where(safe, gamma, 1), -1).argmax()))
    if unsafe.any():
        found.append(int(np.where(unsafe, delta, -1).argmax()))
    return [
        Example(i, scatter.reference, scatter.other, scatter.p[i], scatter.q[i], delta[i], gamma[i])
        for i in found
    ]


def in_words(one: Example, names: Sequence[str], labelled: str) -> str:
    """Say what an image shows; labelled: the name of its class."""
    first, second = one.order[:2]
    reference, other = label(one.reference), label(one.other)
    start = (
        f"Test image {one.index}, labelled {labelled}. {capital(reference)} gives {names[first]} the "
        f"probability {scientific(float(one.p[first]))} and {names[second]}, the next, "
        f"{scientific(float(one.p[second]))}: Γ = {scientific(one.gamma)}. The two differ most on "
        f"{names[one.furthest]}, to which {other} gives {scientific(float(one.q[one.furthest]))} and "
        f"{reference} {scientific(float(one.p[one.furthest]))}: δ = {scientific(one.delta)}. "
    )
    twice = f"2δ = {scientific(2 * one.delta)}"
    if one.guaranteed:
        return start + (
            f"If {names[first]} lost δ and {names[second]} won δ, {names[first]} would still lead, because "
            f"{twice} is less than Γ. So {other} must choose {names[first]}, too. Of all images with this "
            "guarantee, this one comes closest to losing it."
        )
    taken = int(one.q.argmax())
    also = " all the same" if taken == first else ""
    return start + (
        f"{capital(twice)} is not less than Γ, so nothing is guaranteed. {capital(other)} chooses "
        f"{names[taken]}{also}."
    )


def draw(one: Example, names: Sequence[str]) -> Figure:
    """Draw an image's probabilities with δ and Γ between them, and Γ against 2δ below."""
    from matplotlib.figure import Figure

    with themed():
        figure = Figure(figsize=(5.0, 4.6), layout="constrained")
        above, below = figure.subplots(2, 1, height_ratios=(3.4, 1))
        above.set_title("Γ > 2δ: the same class" if one.guaranteed else "Γ ≤ 2δ: no guarantee")
        _bars(above, one, names)
        _lengths(below, one)
        figure.legend(loc="outside lower center", ncols=2)
        return figure


def _bars(axes: Axes, one: Example, names: Sequence[str]) -> None:
    """Probabilities in pairs, Γ between the reference's two largest, δ where the pair differs most."""
    shown = one.shown
    places = np.arange(len(shown))
    for shift, values, of in ((-0.19, one.p, one.reference), (0.19, one.q, one.other)):
        axes.bar(places + shift, values[shown], 0.36, color=style(of).colour, label=capital(label(of)))
    right = len(shown) - 0.4
    heights = [float(one.p[i]) for i in one.order[:2]]
    axes.hlines(heights, (-0.37, 0.63), right, color=_GAMMA, linewidth=0.9, linestyle="dashed")
    _bracket(axes, right, heights, "Γ", _GAMMA)
    ends = [float(values[one.furthest]) for values in (one.p, one.q)]
    _bracket(axes, shown.index(one.furthest) + 0.46, ends, "δ", INK)
    under = [_wrapped(names[i], _LETTERS // len(shown)) for i in shown]
    axes.set_xticks(places, under, fontsize=8.5, parse_math=False)
    axes.set_xlim(-0.6, len(shown) - 0.15)
    axes.set_ylim(0, 1.15 * float(max(one.p.max(), one.q.max())))
    axes.set_ylabel("probability")
    axes.grid(axis="x", visible=False)


def _wrapped(name: str, width: int) -> str:
    """Write a name in two lines at most; letters of East Asia are two wide."""
    if any(east_asian_width(letter) in "WF" for letter in name):
        width //= 2
    return "\n".join(textwrap.wrap(name, width, max_lines=2, placeholder="…"))


def _bracket(axes: Axes, x: float, ends: Sequence[float], text: str, colour: str) -> None:
    """A vertical span, with its name above it."""
    look = {"arrowstyle": "|-|,widthA=0.25,widthB=0.25", "color": colour, "linewidth": 1.6}
    axes.annotate("", (x, min(ends)), (x, max(ends)), arrowprops={**look, "shrinkA": 0, "shrinkB": 0})
    axes.annotate(
        text, (x, max(ends)), (0, 4), textcoords="offset points", color=colour, ha="center", fontsize=12
    )


def _lengths(axes: Axes, one: Example) -> None:
    """Γ and 2δ as two bars of one scale."""
    values = (one.gamma, 2 * one.delta)
    longest = max(*values, FLOOR)
    axes.barh((0, 1), values, 0.6, color=(_GAMMA, INK))
    for row, value in enumerate(values):
        axes.text(value + 0.02 * longest, row, scientific(value), va="center")
    axes.set_yticks((0, 1), ("Γ", "2δ"), fontsize=12)
    axes.set_ylim(1.6, -0.6)
    axes.set_xlim(0, 1.22 * longest)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
