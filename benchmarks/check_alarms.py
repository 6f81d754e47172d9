"""No false alarm: the study's networks, trained as the study did, watched at every step.

    python benchmarks/check_alarms.py --data-dir CIFAR10 [--models resnet20,vit8] [--steps 30] [--out FILE]

Trains each network for some steps in FP16 on CIFAR-10 (an image_folder, or without --data-dir on noise in
class colours) by SGD with momentum 0.9 and learning rate 0.01, lets the monitor look at every step with a
shadow of every operation, and prints what it would have reported. Exit status 1 if it reported anything.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fp16engine as fe
from fp16engine.numerics.monitor import Monitor

# Table 2 of the study (arXiv 2305.10947)
MODELS = (
    "alexnet", "vgg16", "vgg19", "resnet32", "resnet56", "resnet110",
    "densenet121", "densenet169", "xception", "mobilenetv2", "vit8", "vit12",
)  # fmt: skip


def images(folder: str | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 32, 32, 3) in FP16, normalised, and labels (N,)."""
    if folder is not None:
        data = fe.data.image_folder(folder).limit(count)
        return data.normalised("train", "float16"), data.train.labels
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count)
    colours = rng.standard_normal((10, 1, 1, 3))
    x = rng.standard_normal((count, 32, 32, 3)) + colours[labels]
    return (x / x.std()).astype(np.float16), labels


def check(name: str, x: np.ndarray, y: np.ndarray, steps: int, batch: int, lr: float) -> dict[str, Any]:
    """Train and return what the monitor found."""
    model = fe.models.create(name, num_classes=10, image_size=32, channels=3)
    monitor = Monitor(every=1, shadow=1)
    trainer = fe.Trainer(model, "fp16", lr=lr, momentum=0.9, monitor=monitor)
    start = time.perf_counter()
    losses = []
    for step in range(steps):
        part = np.arange(step * batch, (step + 1) * batch) % len(x)
        losses.append(trainer.step(x[part], y[part]).loss)
    last = monitor.samples[-1]
    backward = [row for row in last.rows if row.kind == "activation gradients"]
    return {
        "model": name,
        "loss": [round(losses[0], 3), round(losses[-1], 3)],
        "not_applied": trainer.nonfinite_steps,
        "worst_underflow": round(max((row.underflow for row in backward), default=0.0), 3),
        "worst_lost": round(max((row.share for row in last.updates), default=0.0), 3),
        "findings": monitor.advice,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    x, y = images(arguments.data_dir, 512)
    rows = []
    for name in arguments.models.split(","):
        rows.append(check(name, x, y, arguments.steps, arguments.batch_size, arguments.lr))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any(row["findings"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
