"""Accumulated micro-batches of a network with norms, stored in bfloat16."""

from __future__ import annotations

import numpy as np
import pytest

import fp16engine as fe

pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")


@pytest.mark.parametrize("precision", ["bf16", "bf16-sr"])
def test_running_statistics_of_micro_batches_are_averaged(precision: str) -> None:
    data, model = fe.data.digits().limit(32), fe.models.create("resnet20", image_size=8, channels=1)
    trainer = fe.Trainer(model, precision, accumulate=2)
    history = trainer.fit(data, epochs=1, batch_size=8, progress=False)
    assert np.isfinite(history.epochs[-1].train_loss)
    assert {t.dtype for name, t in model.named_buffers() if "running" in name} == {"bfloat16"}
