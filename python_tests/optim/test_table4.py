"""The study's Table 4 in small: Adam in FP16 by epsilon, on digits."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

import fp16engine as fe

EPOCHS = 3


def accuracy(precision: str, optimizer: str, eps: float, state: str = "native") -> float:
    """Test accuracy of the digits' dense network, 0 for a run that ended in infinities."""
    data = fe.data.digits()
    model = fe.models.create("dnn", image_size=8, channels=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # plain state says how it rounds eps
        trainer = fe.Trainer(
            model, precision, optimizer, lr=1e-3, device="cpu", eps=eps, state=state, max_bad_steps=5
        )
    try:
        return trainer.fit(data, EPOCHS, 64, progress=False).epochs[-1].test_accuracy
    except fe.NonFiniteError:
        return 0.0


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_native_state_needs_no_epsilon_tuning(cpu: Any, optimizer: str) -> None:
    """From 1e-2 to 1e-8 as good as FP32, within five of the 360 test images."""
    images = len(fe.data.digits().test)
    for eps in (1e-2, 1e-5, 1e-8):
        native, wide = accuracy("fp16", optimizer, eps), accuracy("fp32", optimizer, eps)
        assert abs(native - wide) * images <= 5.5, f"eps {eps:g}: {native:.4f}, FP32 {wide:.4f}"


@pytest.mark.slow
def test_plain_state_fails_as_the_study_says(cpu: Any) -> None:
    assert accuracy("fp16", "adam", 1e-3, "plain") > 0.9
    for eps in (1e-5, 1e-7, 0.0):
        assert accuracy("fp16", "adam", eps, "plain") < 0.7
