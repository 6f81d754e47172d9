"""Winograd's convolution against the direct sum on the CPU: how much faster, and how much less accurate.

    python benchmarks/winograd.py speed [--threads 1] [--batch-size 128] [--rounds 11]
    python benchmarks/winograd.py accuracy

`speed`: the direct path's time over Winograd's, medians of turns in one process, FP16, padding 1. `accuracy`:
both against float64 before the result is rounded to FP16, inputs and weights being FP16 numbers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from statistics import median
from typing import Any

import numpy as np

from fp16engine import backend as backends

ALGORITHMS = ("direct", "winograd")
PASSES = ("forward", "data gradient", "weight gradient")
SHAPES = ((32, 16), (16, 32), (8, 64), (32, 64), (16, 128), (8, 256), (4, 512), (2, 512))  # side, channels
KINDS = ("normal", "relu", "log-normal", "spikes")
GEOMETRY = ((1, 1), (1, 1, 1, 1), 1)


def run(backend: Any, which: str, given: Iterable[Any], algorithm: str) -> Any:
    """Return the result of a pass; given: x (N, H, W, C), w (C, 3, 3, C), dy (N, H, W, C)."""
    x, w, dy = given
    if which == "forward":
        return backend.conv2d_forward(x, w, None, *GEOMETRY, "float32", algorithm=algorithm)
    needs = (which == "data gradient", which == "weight gradient", False)
    return next(
        g
        for g in backend.conv2d_backward(x, w, dy, *GEOMETRY, needs, "float32", algorithm=algorithm)
        if g is not None
    )


def draw(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return FP16 numbers: normal, their positive part, times exp(2 normal), or 1e-3 with spikes of 10."""
    z = rng.standard_normal(shape)
    if kind == "relu":
        z = np.maximum(z, 0)
    elif kind == "log-normal":
        z *= np.exp(2 * rng.standard_normal(shape))
    elif kind == "spikes":
        z *= np.where(rng.random(shape) < 1e-3, 10, 1e-3)
    return z.astype(np.float16)


def arrays(kind: str, images: int, side: int, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, w and dy; the weights are scaled so that sums are about as large as x."""
    rng = np.random.default_rng(7)
    x = draw(kind, (images, side, side, channels), rng)
    w = draw("normal", (channels, 3, 3, channels), rng) / np.float16(3 * channels**0.5)
    return x, w, draw("normal", x.shape, rng)


def speed(threads: int, batch_size: int, rounds: int) -> None:
    """Print the ratio of times by shape and pass."""
    backend: Any = backends.get("cpu")
    backend.set_num_threads(threads)
    print(backend.info())
    clock = (
        time.process_time if threads == 1 else time.perf_counter
    )  # what other programs take is not counted
    print("| image, channels | " + " | ".join(PASSES) + " |")
    for side, channels in SHAPES:
        given = [backend.from_numpy(a) for a in arrays("relu", batch_size, side, channels)]
        ratios = []
        for which in PASSES:
            times: dict[str, list[float]] = {algorithm: [] for algorithm in ALGORITHMS}
            for turn in range(rounds + 1):
                for algorithm in ALGORITHMS:
                    start = clock()
                    run(backend, which, given, algorithm)
                    if turn:
                        times[algorithm].append(clock() - start)
            ratios.append(median(d / w for d, w in zip(*times.values(), strict=True)))
        print(f"| {side}x{side}, {channels} | " + " | ".join(f"{r:.1f}" for r in ratios) + " |", flush=True)


def accuracy() -> None:
    """Print errors of a forward pass and of a weight gradient by the kind of input."""
    cpu: Any = backends.get("cpu")
    exactly: Any = backends.get("reference")
    print(
        "| x | channels | algorithm | rms error | not the nearest FP16 | largest error / sum of magnitudes "
        "| rms error of dw |"
    )
    for kind in KINDS:
        for side, channels in ((32, 16), (8, 64)):
            given = arrays(kind, 2, side, channels)
            wide = [a.astype(np.float64) for a in given]
            y, dw = (run(exactly, which, wide, "direct") for which in ("forward", "weight gradient"))
            magnitudes = run(exactly, "forward", [np.abs(a) for a in wide], "direct")
            for algorithm in ALGORITHMS:
                floats = [cpu.from_numpy(a.astype(np.float32)) for a in given]
                got, got_dw = (
                    cpu.to_numpy(run(cpu, which, floats, algorithm))
                    for which in ("forward", "weight gradient")
                )
                figures = [
                    f"{rms(got - y) / rms(y):.1e}",
                    f"{np.mean(got.astype(np.float16) != y.astype(np.float16)):.2%}",
                    f"{np.max(np.abs(got - y) / magnitudes):.0e}",
                    f"{rms(got_dw - dw) / rms(dw):.1e}",
                ]
                print("| " + " | ".join([kind, str(channels), algorithm, *figures]) + " |")


def rms(x: np.ndarray) -> float:
    """Return the root of the mean of the squares."""
    return float(np.sqrt(np.mean(x**2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("speed", "accuracy"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    if arguments.what == "speed":
        speed(arguments.threads, arguments.batch_size, arguments.rounds)
    else:
        accuracy()


if __name__ == "__main__":
    main()
