"""Augmentation in training: in no evaluation, the same after an interruption, and without a 32-bit tensor."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import bounds
import numpy as np
import pytest
import tiny_run

import fp16engine as fe
from fp16engine.numerics.audit import Audit
from fp16engine.observer import BackendCall, observe
from fp16engine.train.batches import ImageFeed


def _feed(batch_size: int, precision: str = "fp16", device: str = tiny_run.DEVICE) -> ImageFeed:
    return ImageFeed.of(tiny_run.trainer(precision, device, augment="study"), tiny_run.data(), batch_size)


def _epoch(feed: ImageFeed, epoch: int) -> np.ndarray:
    """Return the images of an epoch in stored order."""
    order = feed.order(3, epoch)
    images = np.concatenate([np.array(feed.batch(order, step)[0]) for step in range(feed.steps)])
    return images[np.argsort(order.samples)]


def test_every_epoch_draws_anew_and_the_batch_size_changes_nothing() -> None:
    first = _epoch(_feed(16), 0)
    bounds.same_bits(_epoch(_feed(7), 0), first)
    assert not np.array_equal(_epoch(_feed(16), 1), first)


def test_training_batches_are_augmented_and_test_batches_are_not() -> None:
    calls: Counter[str] = Counter()

    def around(call: BackendCall) -> Any:
        calls[call.op] += 1
        return call.run()

    with observe(around):
        tiny_run.trainer(augment="crop-flip").fit(tiny_run.data(), 2, tiny_run.BATCH, progress=False)
    assert calls["augment"] == 2 * tiny_run.STEPS_PER_EPOCH
    assert calls["gather"] == 2  # the test set, once an epoch


def test_no_32_bit_tensor(backend_name: str) -> None:
    feed = _feed(16, device=backend_name)
    with Audit() as audit:
        feed.batch(feed.order(0, 0), 0)
    assert [row.op for row in audit.rows if row.op == "augment"] == ["augment"]
    assert audit.float32_tensors() == []


class _StopAt:
    """A reporter that raises at the n-th step, as an out-of-memory error would."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        if step == self.at:
            raise MemoryError

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


def test_resume_gives_the_same_bits(tmp_path: Path) -> None:
    def fit(folder: str, **options: Any) -> None:
        tiny_run.trainer(augment="study").fit(
            tiny_run.data(),
            2,
            tiny_run.BATCH,
            tmp_path / folder,
            checkpoint_every=1,
            **{"progress": False, **options},
        )

    fit("whole")
    with pytest.raises(MemoryError):
        fit("broken", progress=_StopAt(7))
    fit("broken", resume=True)
    tensors = [fe.Checkpoint.load(tmp_path / folder).tensors for folder in ("whole", "broken")]
    assert {k: v.tobytes() for k, v in tensors[0].items()} == {k: v.tobytes() for k, v in tensors[1].items()}
    settings = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert settings["augment"] == fe.data.Augmentation.get("study").to_dict()


def test_the_shift_must_fit_the_image() -> None:
    trainer = tiny_run.trainer(augment=fe.data.Augmentation(shift=5))
    with pytest.raises(ValueError, match=r"augment: shift must .* got 5"):
        trainer.fit(tiny_run.data(), 1, 16, progress=False)
