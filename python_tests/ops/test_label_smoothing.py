"""The smoothed cross-entropy against its definition, and in training."""

from __future__ import annotations

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_it_is_the_cross_entropy_with_spread_labels(smoothing: float) -> None:
    """-sum(target * log_softmax) over the counted rows, and its gradient, in float64 by hand."""
    logits = np.random.default_rng(0).standard_normal((5, 7)) * 3
    labels = np.array([0, -1, 6, 3, 3])
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = (1 - smoothing) * (np.arange(7) == labels[:, None]) + smoothing / 7
    counted = (labels >= 0)[:, None]
    x = fe.tensor(logits, "float64", "reference", requires_grad=True)
    loss = F.cross_entropy(x, fe.tensor(labels, device="reference"), -1, smoothing)
    loss.backward()
    exact = -(target * log_probs * counted).sum() / 4
    assert x.grad is not None
    assert abs(loss.item() - exact) <= 100 * bounds.EPS["float64"] * exact
    gradient = (np.exp(log_probs) - target) * counted / 4
    assert np.abs(x.grad.numpy() - gradient).max() <= 100 * bounds.EPS["float64"]


def test_the_mean_of_many_large_logits_stays_finite_in_binary16() -> None:
    """Their sum would be infinite: with binary16 accumulators too the mean is halved at every merge."""
    logits = np.full((2, 4096), -100.0, np.float16)
    logits[:, 0] = 0
    labels = fe.tensor(np.zeros(2, np.int64), device="reference")
    for precision in ("fp16", "fp16-strict"):
        with fe.Precision.get(precision).use():
            loss = F.cross_entropy(fe.tensor(logits, device="reference"), labels, None, 0.1).item()
        assert np.isfinite(loss) and abs(loss - 10) < 0.1


def test_only_training_smooths() -> None:
    """The evaluated loss is that of a trainer without smoothing; the trained one is not."""
    digits = fe.data.digits().limit(16)
    losses, scores = [], []
    for smoothing in (0.0, 0.3):
        model = fe.models.create("dnn", image_size=8, channels=1)
        trainer = fe.Trainer(model, "fp32", device="reference", label_smoothing=smoothing)
        scores.append(trainer.evaluate(digits))
        losses.append(trainer.step(digits.normalised("train", "float32"), digits.train.labels).loss)
        assert trainer.config.label_smoothing == smoothing
    assert scores[0] == scores[1] and losses[0] != losses[1]
    with pytest.raises(ValueError, match=r"label_smoothing must be .*, got 2"):
        fe.Trainer(model, "fp32", device="reference", label_smoothing=2)
