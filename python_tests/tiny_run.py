"""A run small enough for a test; as a script it can end itself by SIGKILL at a chosen moment."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

import fp16engine as fe
from fp16engine import nn
from fp16engine.data import Dataset, Split
from fp16engine.reporting.history import WALL_TIME_FIELDS, EpochRecord

DEVICE = os.environ.get("TINY_DEVICE", "reference")  # where tests run that are not repeated on every backend
CLASSES = 3
BATCH = 16
EPOCHS = 3
STEPS_PER_EPOCH = 4  # 50 images in batches of 16, the last of 2


def data(train: int = 50, test: int = 20, seed: int = 0, name: str = "tiny") -> Dataset:
    """4x4 images whose brightest third tells the class."""
    rng = np.random.default_rng(seed)

    def split(count: int) -> Split:
        labels = rng.integers(0, CLASSES, count)
        images = rng.integers(0, 120, (count, 4, 4, 1))
        images[np.arange(count), labels] += 100
        return Split(images.astype(np.uint8), labels.astype(np.int64))

    return Dataset(name, split(train), split(test), tuple("abc"))


def model(dropout: float = 0.25, width: int = 4) -> nn.Sequential:
    """Convolution, batch norm, dropout, classifier."""
    fe.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(1, width, 3),
        nn.BatchNorm2d(width, activation="relu"),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(16 * width, CLASSES),
    )


def trainer(precision: Any = "fp16", device: str = DEVICE, **options: Any) -> fe.Trainer:
    """A trainer of the tiny model."""
    settings = {"lr": 0.05, "seed": 3, **options}
    return fe.Trainer(model(), precision=precision, device=device, **settings)


class KillAtStep:
    """A reporter that ends the process at its n-th step."""

    def __init__(self, at: int) -> None:
        self.left = at

    def begin(self, title: str, epochs: int, total_steps: int, done_steps: int) -> None:
        pass

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        self.left -= 1
        if self.left == 0:
            kill()

    def epoch(self, record: EpochRecord) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def end(self) -> None:
        pass


class StopAt(KillAtStep):
    """A reporter that breaks the run off at a step of an epoch or later, as an out-of-memory error would."""

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        if step == self.left:
            raise MemoryError


def fit(
    run: fe.Trainer, out: Path, resume: bool = False, progress: Any = False, **options: Any
) -> fe.train.History:
    """Train on the tiny data, saving every step; options: of `Trainer.fit`."""
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "checkpoint_every": 1, "log_every": 1, **options}
    return run.fit(data(), out=out, resume=resume, progress=progress, **settings)


def outcome(out: Path) -> tuple[bytes, Any, Any]:
    """Return what a run leaves behind except wall times and the peak of memory: tensors, state, metrics."""

    def timeless(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if key not in WALL_TIME_FIELDS}

    body = json.loads((out / "checkpoint.json").read_text())["checkpoint"]
    body["history"] = [timeless(row) for row in body["history"]]
    body["sums"] = timeless(body["sums"])
    del body["peak_memory_bytes"]
    metrics = [timeless(json.loads(line)) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return (out / body["tensors"]["file"]).read_bytes(), body, metrics


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_call(name: str, at: int) -> None:
    """End the process instead of the n-th call of os.`name`."""
    real, calls = getattr(os, name), iter(range(1, 1 << 30))

    def counted(*arguments: Any, **options: Any) -> Any:
        if next(calls) == at:
            kill()
        return real(*arguments, **options)

    setattr(os, name, counted)


def main() -> None:
    """tiny_run.py OUT PRECISION OPTIMIZER (step|replace|fsync|unlink|never) N."""
    out, precision, optimizer, moment, at = sys.argv[1:]
    resume = (Path(out) / "checkpoint.json").exists()
    progress: Any = False
    if moment == "step":
        progress = KillAtStep(int(at))
    elif moment != "never":
        kill_at_call(moment, int(at))
    run = trainer(precision, optimizer=optimizer)
    run.fit(data(), EPOCHS, BATCH, out, resume, progress, checkpoint_every=2, log_every=1)


if __name__ == "__main__":
    main()
