"""Outputs that are not finite are wrong answers, and a run that trained nothing has failed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.reporting import metrics
from fp16engine.reporting.history import EpochSums
from fp16engine.train.objective import judged
from fp16engine.train.outcome import failure

DIGITS = fe.data.digits().limit(64)


def test_rows_without_a_finite_maximum_are_wrong(backend_name: str) -> None:
    nan, inf = math.nan, math.inf
    rows = [[2, 1, 0], [nan, nan, nan], [1, nan, 0], [inf, 0, 0], [-inf, -inf, -inf], [1, -inf, 0], [1, 1, 0]]
    logits = fe.tensor(np.array(rows, np.float16), device=backend_name)
    assert judged(logits, np.zeros(len(rows), np.int64)) == (3, 3)


def test_a_network_of_nan_has_no_accuracy(backend_name: str) -> None:
    model = fe.models.create("dnn", image_size=8, channels=1)
    trainer = fe.Trainer(model, precision="fp16", device=backend_name)
    assert 0 <= trainer.evaluate(DIGITS)[0] <= 1
    state = {name: np.full_like(value, np.nan) for name, value in trainer.model.state_dict().items()}
    trainer.model.load_state_dict(state)
    accuracy, loss = trainer.evaluate(DIGITS)
    assert math.isnan(accuracy)
    assert math.isnan(loss)


@pytest.mark.parametrize("precision", ["fp16", "fp32", "mp"])
@pytest.mark.parametrize(("device", "capture"), [("reference", False), ("simt", True)])
def test_a_run_that_applies_almost_no_step_fails(
    precision: str, device: str, capture: bool, request: pytest.FixtureRequest
) -> None:
    if device == "simt":
        request.getfixturevalue("simt")
    model = fe.nn.Sequential(fe.nn.Flatten(), fe.nn.Linear(64, 16), fe.nn.ReLU(), fe.nn.Linear(16, 10))
    trainer = fe.Trainer(model, precision, lr=1e30, device=device, capture=capture)
    summary = trainer.fit(DIGITS, 2, 8, progress=False).summary()
    assert trainer.step_count == 16
    assert trainer.applied_steps < 8
    assert summary["status"] == "failed"
    assert f"only {trainer.applied_steps} of 16 steps w" in summary["error"]
    json.dumps(summary, allow_nan=False)


def test_a_diverged_epoch_has_no_training_figures(tmp_path: Path) -> None:
    """Its first step has a finite loss: that step is not the epoch."""
    model = fe.models.create("dnn", image_size=8, channels=1)
    trainer = fe.Trainer(model, "fp32", lr=1e9, device="reference")
    history = trainer.fit(DIGITS, 2, 4, tmp_path, progress=False, log_every=1)
    losses = [loss for _, loss in metrics.losses(tmp_path)]
    assert losses[0] is not None
    assert history.epochs[0].nonfinite > 0
    for row in metrics.finished_epochs(tmp_path):
        assert (row["train_loss"], row["train_accuracy"], row["test_accuracy"]) == (None, None, None)
    summary = history.summary()
    assert (summary["train_loss"], summary["train_accuracy"]) == (None, None)


@pytest.mark.parametrize(
    ("counted", "correct", "test", "expected"),
    [
        (100, 90, 0.5, (2.0, 0.9)),
        (80, 60, 0.5, (2.0, 0.6)),  # of all 100: those of the other steps are wrong
        (50, 40, 0.5, (2.0, 0.4)),
        (49, 40, 0.5, None),
        (0, 0, 0.5, None),
        (100, 90, math.nan, None),
    ],
)
def test_what_counts_as_a_diverged_epoch(counted: int, correct: int, test: float, expected: Any) -> None:
    sums = EpochSums(loss=2.0 * counted, correct=correct, counted=counted, images=100)
    record = sums.record(1, 1.0, test, None, 0.1)
    found = record.train_loss, record.train_accuracy
    assert all(map(math.isnan, found)) if expected is None else found == expected


def test_a_run_that_trains_has_not_failed() -> None:
    model = fe.models.create("dnn", image_size=8, channels=1)
    history = fe.Trainer(model, "mp", lr=0.01, device="reference").fit(DIGITS, 1, 16, progress=False)
    assert history.failure is None
    assert history.summary()["status"] == "finished"


@pytest.mark.parametrize(
    ("steps", "accuracy", "said"),
    [
        ((0, 0), 0.1, None),
        ((10, 5), 0.1, None),
        ((10, 4), 0.1, "only 4 of 10 steps were applied"),
        ((10, 1), 0.1, "only 1 of 10 steps was applied"),
        ((10, 10), math.nan, "the network's outputs are not finite"),
        ((10, 2), math.nan, "the network's outputs are not finite and only 2 of 10 steps were applied"),
    ],
)
def test_the_reason_is_one_sentence(steps: tuple[int, int], accuracy: float, said: Any) -> None:
    found = failure(*steps, accuracy)
    assert (found and found.partition(";")[0]) == said
