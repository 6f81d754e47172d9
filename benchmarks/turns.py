"""Training steps of several contenders, turn by turn in one process: what they share, they share equally."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np

import fp16engine as fe
from fp16engine import backend as backends


def asked(about: str | None, rounds: int) -> argparse.Namespace:
    """Return what the command line asks for: model, batch_size, rounds and device, whose threads are set."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        backends.get(arguments.device).set_num_threads(arguments.threads)
    return arguments


def images(batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images of CIFAR-10's size, FP32 (batch_size, 32, 32, 3), and labels."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch_size, 32, 32, 3)).astype(np.float32), rng.integers(0, 10, batch_size)


def step_seconds(trainers: Mapping[str, fe.Trainer], batch: tuple[Any, Any], rounds: int) -> dict[str, float]:
    """Return the median seconds of a step of every trainer; the first step of each is not counted."""
    x, y = batch
    own = {name: x.astype(trainer.precision.storage) for name, trainer in trainers.items()}
    times: dict[str, list[float]] = {name: [] for name in trainers}
    for turn in range(rounds + 1):
        for name, trainer in trainers.items():
            start = time.perf_counter()
            trainer.step(own[name], y)
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}
