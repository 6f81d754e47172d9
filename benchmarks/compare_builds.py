"""The CPU convolutions of two builds, shape by shape in turns: how a change of the loops pays.

    python benchmarks/compare_builds.py BUILD_A BUILD_B [--rounds 5] [--threads 2]

A build is a folder that holds the package `fp16engine` with its compiled module; each runs in a process of
its own, so that for example one of an earlier commit stands next to one of today. Printed are GFLOP/s of both
and the time of A over that of B, medians, FP16, for the forward pass and both gradients.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median
from typing import Any

# images, side, channels in, channels out, side of the filter, stride, groups
SHAPES = (
    (32, 32, 16, 96, 1, 1, 1), (32, 8, 64, 384, 1, 1, 1), (32, 4, 576, 96, 1, 1, 1),
    (32, 4, 728, 728, 1, 1, 1), (32, 2, 1024, 1536, 1, 1, 1), (32, 16, 256, 512, 1, 1, 1),
    (128, 32, 16, 32, 3, 2, 1), (32, 8, 256, 512, 3, 2, 1), (32, 8, 256, 512, 1, 2, 1),
    (32, 4, 512, 512, 3, 1, 1), (32, 16, 256, 256, 3, 1, 1), (32, 8, 192, 256, 5, 1, 1),
    (32, 32, 3, 64, 7, 2, 1), (128, 32, 3, 16, 3, 1, 1), (32, 32, 96, 96, 3, 1, 96),
    (32, 16, 144, 144, 3, 2, 144),
    (32, 16, 96, 96, 3, 1, 96), (64, 8, 192, 192, 3, 1, 192),
    (32, 4, 728, 728, 3, 1, 728), (64, 2, 384, 384, 3, 1, 384), (64, 1, 960, 960, 3, 1, 960),
)  # fmt: skip
PASSES = ("forward", "data gradient", "weight gradient")
_SECONDS = 0.04  # of calls that one answer is the mean of

# Answers a line with a shape, a pass and a number of threads by the seconds of a call.
_CHILD = """
import json, sys, time
import numpy as np
sys.path.insert(0, sys.argv[1])
from fp16engine import _cpu
kept = {}
for line in sys.stdin:
    shape, which, threads, least = json.loads(line)
    images, side, channels, kernels, size, stride, groups = shape
    if kept.get("shape") != shape:
        rng = np.random.default_rng(0)
        out = -(-side // stride)
        before = max((out - 1) * stride + size - side, 0) // 2
        after = max((out - 1) * stride + size - side, 0) - before
        filters = (kernels, size, size, channels // groups)
        shapes = ((images, side, side, channels), filters, (images, out, out, kernels))
        x, w, dy = (rng.standard_normal(s).astype(np.float16) for s in shapes)
        results = (np.empty_like(dy), np.empty_like(x), np.empty_like(w))
        kept = {"shape": shape, "arrays": (x, w, dy, *results)}
        geometry = (stride, stride, (before, after, before, after), groups, 0)
    x, w, dy, y, dx, dw = kept["arrays"]
    _cpu.set_num_threads(threads)
    call = {
        "forward": lambda: _cpu.conv2d_forward(x, w, None, y, *geometry),
        "data gradient": lambda: _cpu.conv2d_backward(x, w, dy, dx, None, None, *geometry),
        "weight gradient": lambda: _cpu.conv2d_backward(x, w, dy, None, dw, None, *geometry),
    }[which]
    call()
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < least:
        call()
        calls += 1
    print((time.perf_counter() - start) / calls, flush=True)
"""


class Build:
    """A build's process."""

    def __init__(self, folder: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, *question: Any) -> float:
        """Return the seconds of a call."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([*question, _SECONDS]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("a build's process ended; its error is printed above")
        return float(answer)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("builds", nargs=2, metavar="BUILD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    builds = [Build(folder) for folder in arguments.builds]
    print("| images, side, channels, filter/stride, groups | " + " | ".join(PASSES) + " |")
    print("|---" * (1 + len(PASSES)) + "|")
    for shape in SHAPES:
        images, side, channels, kernels, size, stride, groups = shape
        work = 2 * images * (-(-side // stride)) ** 2 * kernels * (channels // groups) * size**2 / 1e9
        cells = []
        for which in PASSES:
            turns = [
                [build.seconds(shape, which, arguments.threads) for build in builds]
                for _ in range(arguments.rounds)
            ]
            a, b = (median(turn[i] for turn in turns) for i in range(2))
            cells.append(f"{work / a:.0f}, {work / b:.0f}: {a / b:.2f}x")
        name = f"{images}, {side}x{side}, {channels} to {kernels}, {size}x{size}/{stride}, {groups}"
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
