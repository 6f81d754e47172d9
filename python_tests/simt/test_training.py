"""Twenty steps of a small convolutional network on the simulated GPU, against the same steps on the CPU."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine import nn

STEPS, BATCH, CLASSES = 20, 32, 10
SCHEDULES = 5

# An ulp in exp or from a free order of summation grows over the steps. Between "cpu" and "reference", which
# differ by no more than that, the largest difference of a loss was 0.007, 0, 0.010 and 5e-7.
DRIFT = {"fp16": 0.03, "fp16-strict": 0.03, "mp": 0.03, "fp32": 1e-5}


def _lenet() -> nn.Sequential:
    """LeNet for 8x8 digits, with batch normalisation and dropout."""
    fe.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.BatchNorm2d(6, activation="relu"),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.BatchNorm2d(16, activation="relu"),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 120),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, CLASSES),
    )


def _batches() -> list[tuple[np.ndarray, np.ndarray]]:
    digits = fe.data.digits()
    images, labels = digits.normalised("train", "float16"), digits.train.labels
    cuts = [slice(i * BATCH, (i + 1) * BATCH) for i in range(STEPS)]
    return [(images[cut], labels[cut]) for cut in cuts]


def _state(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in model.state_dict().items()}


def _squared_error(device: str) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Train under fp16-strict without exp: every bit of every step is defined."""
    policy = fe.Precision.get("fp16-strict")
    model = _lenet().to(device, policy)
    optimizer = fe.optim.SGD(list(model.parameters()), lr=0.1, momentum=0.9)
    losses = []
    for step, (x, labels) in enumerate(_batches()):
        if device == "simt":
            fe.backend.get(device).set_schedule(step % SCHEDULES)  # type: ignore[attr-defined]
        expected = fe.tensor(np.eye(CLASSES)[labels], "float16", device)
        with policy.use():
            error = model(fe.tensor(x, "float16", device)) - expected
            loss = (error * error).mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        losses.append(np.array(loss.numpy()))
    return losses, _state(model)


@pytest.mark.slow
def test_strict_training_has_the_same_bits(simt: Any, cpu: Any) -> None:
    (losses, state), (expected_losses, expected) = _squared_error("simt"), _squared_error("cpu")
    for got, loss in zip(losses, expected_losses, strict=True):
        bounds.same_bits(got, loss)
    assert state.keys() == expected.keys()
    for name in expected:
        bounds.same_bits(state[name], expected[name])
    assert float(losses[-1]) < 0.5 * float(losses[0])


def _cross_entropy(device: str, precision: str) -> list[float]:
    trainer = fe.Trainer(_lenet(), precision=precision, lr=0.05, device=device, seed=2)
    losses = []
    for step, (x, labels) in enumerate(_batches()):
        if device == "simt":
            fe.backend.get(device).set_schedule(step % SCHEDULES)  # type: ignore[attr-defined]
        result = trainer.step(x, labels)
        assert result.applied
        losses.append(result.loss)
    return losses


@pytest.mark.parametrize(
    "precision", ["fp16", pytest.param("fp16-strict", marks=pytest.mark.slow), "mp", "fp32"]
)
def test_training_with_cross_entropy(simt: Any, cpu: Any, precision: str) -> None:
    got, expected = (np.array(_cross_entropy(device, precision)) for device in ("simt", "cpu"))
    bounds.within_ulps(got[:1].astype(np.float16), expected[:1], 1, "float16")
    assert np.abs(got - expected).max() <= DRIFT[precision]
    assert got[-5:].mean() < 0.5 * got[0]
