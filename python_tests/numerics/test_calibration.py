"""Temperatures: the minimum is found, and no prediction changes."""

from __future__ import annotations

import bounds
import numpy as np
import pytest

from fp16engine.numerics.calibration import softmax, temperature


def cross_entropy(logits: np.ndarray, labels: np.ndarray, t: float) -> float:
    return float(-np.mean(np.log(softmax(logits, t)[np.arange(len(labels)), labels])))


@pytest.mark.parametrize("too_sure", [0.1, 1.0, 10.0])
def test_logits_scaled_by_a_number_get_it_back_as_their_temperature(too_sure: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4000, 5)) * 2
    p = softmax(logits)
    labels = (p.cumsum(axis=1) > rng.random((len(p), 1))).argmax(axis=1)  # drawn from p: it is calibrated
    base = temperature(logits, labels)
    assert 0.9 < base < 1.1
    t = temperature(logits * too_sure, labels)
    assert t == pytest.approx(base * too_sure, rel=bounds.U["float32"])
    best = cross_entropy(logits * too_sure, labels, t)
    assert best <= min(cross_entropy(logits * too_sure, labels, t * f) for f in (0.9, 0.99, 1.01, 1.1))
    assert np.array_equal(softmax(logits, t).argmax(axis=1), logits.argmax(axis=1))


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"labels must .* got \(3,\) and \(2, 2\)"):
        temperature(np.zeros((2, 2)), np.zeros(3))
