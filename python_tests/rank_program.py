"""What the ranks of a test do: `mpiexec -n P python rank_program.py FOLDER JSON`.

Trains the tiny network of tiny_run.py as the JSON says and writes FOLDER/rank-R.json: the digest of
everything that was trained, and what else the rank found. Keys: "trainer" (arguments of Trainer), "fit" (of
Trainer.fit), "of_rank" (arguments of the trainer of single ranks, by rank), "at" ([rank, step, what]: at that
step the rank gets a signal), "dropout" (of the network), "network" (another one, on images of
CIFAR-10's form), "limit" (seconds).
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tiny_run

import fp16engine as fe
from fp16engine.data import Dataset, Split
from fp16engine.distributed import group


class At(fe.train.Callback):
    """Sends this process a signal after a step."""

    def __init__(self, step: int, name: str) -> None:
        self.step, self.signal = step, getattr(signal, name)

    def on_step(self, trainer: fe.Trainer, result: Any) -> None:
        if trainer.step_count == self.step:
            os.kill(os.getpid(), self.signal)


def digest(trainer: fe.Trainer) -> str:
    """Of weights, buffers, optimizer state, counters, randomness and loss scale."""
    found = hashlib.sha256(json.dumps(trainer.state_dict(), sort_keys=True).encode())
    for part in (trainer.model.state_dict(), trainer.optimizer.state_dict()):
        for name in sorted(part):
            found.update(f"{name} {part[name]}".encode())
            if isinstance(part[name], np.ndarray):
                found.update(np.ascontiguousarray(part[name]).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def train(asked: dict[str, Any]) -> tuple[fe.Trainer, fe.train.History]:
    """The trainer after `fit`."""
    fe.distributed.init(limit=asked.get("limit", 60.0))
    rank = fe.distributed.rank()
    options = {**asked.get("trainer", {}), **asked.get("of_rank", {}).get(str(rank), {})}
    if "at" in asked and asked["at"][0] == rank:
        options["callbacks"] = [At(*asked["at"][1:])]
    model, data = tiny_run.model(asked.get("dropout", 0.25)), tiny_run.data()
    if "network" in asked:
        model, data = fe.models.create(asked["network"], image_size=32, channels=3), like_cifar()
    trainer = fe.Trainer(model, **{"lr": 0.05, "seed": 3, **options})
    settings = {"epochs": 2, "batch_size": 4, "progress": False, **asked.get("fit", {})}
    return trainer, trainer.fit(data, **settings)


def like_cifar() -> Dataset:
    """Random images of CIFAR-10's form, which are all that bits need."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        images = rng.integers(0, 256, (count, 32, 32, 3))
        return Split(images.astype(np.uint8), np.arange(count, dtype=np.int64) % 10)

    return Dataset("random", split(20), split(10), tuple("abcdefghij"))


def main() -> None:
    folder, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
    trainer, history = train(asked)
    found = {
        "digest": digest(trainer),
        "accuracy": [row.test_accuracy for row in history.epochs],
        "test_loss": [row.test_loss for row in history.epochs],
        "train_loss": [row.train_loss for row in history.epochs],
        "steps": [trainer.applied_steps, trainer.skipped_steps, trainer.nonfinite_steps],
        "distributed": history.run.get("distributed"),
        "mean": [
            float(x) for x in fe.distributed.all_reduce([np.array([20_000, group.rank()], np.float16)])[0]
        ],
    }
    (folder / f"rank-{fe.distributed.rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
