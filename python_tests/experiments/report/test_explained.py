"""The images on which a report explains δ and Γ: the right ones, and true words about them."""

from __future__ import annotations

import numpy as np
import pytest

from fp16engine.experiments.report import explained
from fp16engine.experiments.report.page_plots import Scatter
from fp16engine.numerics.tolerance import delta, gamma_sound

NAMES = ["cat", "dog", "owl"]
P = np.array(
    [
        [0.7, 0.2, 0.1],
        [0.5, 0.4, 0.1],
        [0.5, 0.4, 0.1],
        [0.45, 0.4, 0.15],
        [0.9, 0.1, 0.0],
        [0.45, 0.4, 0.15],
    ],
    np.float32,
)
Q = np.array(
    [
        [0.69, 0.2, 0.11],
        [0.47, 0.43, 0.1],
        [0.4, 0.5, 0.1],
        [0.43, 0.38, 0.19],
        [np.nan] * 3,
        [0.8, 0.1, 0.1],
    ],
    np.float32,
)


def scatter(rows: list[int]) -> Scatter:
    p, q = P[rows], Q[rows]
    return Scatter("fp32", "fp16", p, q, delta(p, q), gamma_sound(p), p.argmax(axis=1) == q.argmax(axis=1))


def test_the_narrowest_guarantee_and_the_furthest_disagreement_are_chosen() -> None:
    safe, unsafe = explained.choose(scatter([0, 1, 2, 3, 4, 5]))
    assert (safe.index, safe.guaranteed, unsafe.index, unsafe.guaranteed) == (1, True, 2, False)
    assert safe.delta == pytest.approx(0.03) and safe.gamma == pytest.approx(0.1)
    assert unsafe.delta == pytest.approx(0.1) and unsafe.gamma == pytest.approx(0.1)


def test_without_a_disagreement_an_image_without_a_guarantee_is_chosen_and_without_one_none() -> None:
    assert [one.index for one in explained.choose(scatter([0, 3]))] == [0, 1]
    assert [one.index for one in explained.choose(scatter([0]))] == [0]
    assert explained.choose(scatter([4])) == []


def test_words_say_what_follows() -> None:
    safe, unsafe = (explained.in_words(one, NAMES, "owl") for one in explained.choose(scatter([0, 1, 2, 3])))
    assert "labelled owl. FP32 gives cat the probability 0.5 and dog, the next, 0.4: Γ = 0.1." in safe
    assert "cat would still lead, because 2δ = 0.06 is less than Γ. So FP16 must choose cat, too." in safe
    assert "2δ = 0.2 is not less than Γ, so nothing is guaranteed. FP16 chooses dog." in unsafe
    _, same = (explained.in_words(one, NAMES, "owl") for one in explained.choose(scatter([0, 3])))
    assert "nothing is guaranteed. FP16 chooses cat all the same." in same


def test_the_class_that_differs_most_is_drawn_among_many() -> None:
    p = np.zeros((1, 9))
    p[0] = [0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05, 0.0]
    q = p.copy()
    q[0, 8], q[0, 0] = 0.09, 0.21
    q[0, 8] += 1e-3
    one = explained.Example(0, "fp32", "fp16", p[0], q[0], 0.091, 0.1)
    assert one.furthest == 8 and one.shown == [0, 1, 2, 3, 8]
