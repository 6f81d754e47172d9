"""The lemma on 10 000 real test samples, and on as many drawn to break it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.numerics.tolerance import analyse

MNIST = os.environ.get("FP16ENGINE_MNIST", "")  # a folder with the four files
SAMPLES = 10_000


def test_guaranteed_samples_agree_on_the_test_set_of_mnist(cpu: Any) -> None:
    if not MNIST or not Path(MNIST).is_dir():
        pytest.skip("the MNIST files are not here; FP16ENGINE_MNIST names their folder")
    data = fe.data.mnist(MNIST)
    few = fe.data.Dataset("mnist", data.train, data.test, data.classes)
    x = {dtype: few.normalised("test", dtype) for dtype in ("float16", "float32")}
    images = data.limit(2048)
    probabilities = {}
    for precision in ("fp32", "fp16"):
        model = fe.models.create("dnn", image_size=28, channels=1)
        trainer = fe.Trainer(model, precision, lr=0.05)
        dtype = trainer.precision.storage
        train, labels = images.normalised("train", dtype), images.train.labels
        for start in range(0, 2048, 128):
            trainer.step(train[start : start + 128], labels[start : start + 128])
        probabilities[precision] = trainer.predict(x[dtype])
    result = analyse(probabilities["fp32"], probabilities["fp16"])
    assert result.samples == SAMPLES and result.nonfinite_samples == 0
    assert 0.5 < result.guaranteed_share <= result.agreement


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_on_probabilities_drawn_to_break_it(classes: int) -> None:
    """Coarse values make ties and Gamma = 2 delta common; half of the others differ by one step only."""
    rng = np.random.default_rng(classes)
    p = rng.integers(0, 9, (SAMPLES, classes)) / 8
    q = np.where(rng.random((SAMPLES, 1)) < 0.5, p + rng.integers(-1, 2, p.shape) / 8, rng.random(p.shape))
    result = analyse(p, q)
    assert result.guaranteed_share <= result.agreement
    # the printed form claims more than is there
    assert result.paper_share > result.guaranteed_share
    one_by_one = [analyse(a[None], b[None]) for a, b in zip(p[:2000], q[:2000], strict=True)]
    assert all(one.guaranteed_share <= one.agreement for one in one_by_one)
    assert any(one.paper_share > one.agreement for one in one_by_one)
