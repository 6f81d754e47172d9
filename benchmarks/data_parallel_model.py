"""One run on several processes, on paper: step time against P, checked here; the error of the sums against P.

    python benchmarks/data_parallel_model.py gpus [--batch-size 256]
    python benchmarks/data_parallel_model.py check [--model resnet20] [--batch-size 64]
    python benchmarks/data_parallel_model.py error [--length 1000000]

gpus: the model of `step_time` for networks of the study and airbench94 on 8, 64 and 1,024 GPUs. The rates
in `GPUS` are the makers' figures or assumptions, not measurements. check: message time and rate measured on
this machine go into the same model, next to measured steps of 1, 2 and 4 processes. error: means over 2 to 16
ranks against float64, in units of the last place of the result. check and error need mpi4py and mpiexec.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import fp16engine as fe
from fp16engine.bench.roofline import count
from fp16engine.distributed.exchange import bucket_bytes
from fp16engine.distributed.reduce import REDUCE

NETWORKS = ("dnn", "resnet20", "resnet56", "vgg16", "densenet40", "airbench94")
BACKWARD = 2 / 3  # of the products of a step belong to the backward pass
SMALL_SWAPS = 3  # of a step besides the gradients: losses and statistics, which gradients there are, signals


@dataclass(frozen=True)
class Machine:
    """flops: sustained FLOP/s of a rank; near, far: bytes/s that a rank sends within a node and beyond it;
    node: ranks of a node; start: seconds from one rank to another; message: seconds of each further message
    of a rank."""

    flops: float
    near: float
    far: float
    node: int
    start: float
    message: float


# FP16 at 40 % of the H100's 989 TFLOP/s (assumed), NVLink 4 at 450 GB/s and a 400 Gb/s adapter per GPU (the
# makers' figures), 5 us and 1 us per message (assumed).
GPUS = Machine(0.4 * 989e12, 450e9, 50e9, 8, 5e-6, 1e-6)


def exchange_time(machine: Machine, ranks: int, moved: float, swaps: int) -> float:
    """Seconds of `swaps` swaps in which each rank sends `moved` bytes in all, shared by the others."""
    rate = machine.near if ranks <= machine.node else machine.far
    return swaps * (machine.start + (ranks - 1) * machine.message) + moved / rate


def step_time(machine: Machine, ranks: int, compute: float, gradient_bytes: int) -> dict[str, float]:
    """Seconds of a step: compute, the exchange, and what of it the backward pass does not hide.

    exchange = 2 b (start + (P - 1) message) + 2 (P - 1) / P bytes / rate,   b buckets
    exposed = max(exchange - 2/3 compute, exchange / b) + the step's small messages
    """
    if ranks == 1:
        return {"compute": compute, "exchange": 0.0, "exposed": 0.0, "step": compute}
    buckets = max(1, -(-gradient_bytes // bucket_bytes(ranks)))
    moved = 2 * (ranks - 1) / ranks * gradient_bytes
    exchange = exchange_time(machine, ranks, moved, 2 * buckets)
    small = exchange_time(machine, ranks, 0, SMALL_SWAPS)
    exposed = max(exchange - BACKWARD * compute, exchange / buckets) + small
    return {"compute": compute, "exchange": exchange, "exposed": exposed, "step": compute + exposed}


def work(name: str) -> tuple[int, float]:
    """(bytes of a network's FP16 gradients, FLOPs of a step per image), counted on a small batch."""
    grey = name == "dnn"
    size, channels, images = (28, 1, 8) if grey else (32, 3, 4)
    model = fe.models.create(name, image_size=size, channels=channels)
    run = fe.Trainer(model, "fp16", lr=0.01)
    x = np.random.default_rng(0).standard_normal((images, size, size, channels)).astype(np.float16)
    flops = count(lambda: run.step(x, np.arange(images) % 10)).flops
    return 2 * sum(p.size for p in run.model.parameters()), flops / images


def gpus(arguments: argparse.Namespace) -> None:
    """Weak scaling: the same batch on every GPU."""
    for name in NETWORKS:
        size, flops = work(name)
        compute = arguments.batch_size * flops / GPUS.flops
        for ranks in (1, 8, 64, 1024):
            found = step_time(GPUS, ranks, compute, size)
            row = {key: round(1e3 * seconds, 3) for key, seconds in found.items()}
            print(
                json.dumps(
                    {
                        "network": name,
                        "gradient_MB": round(size / 1e6, 2),
                        "ranks": ranks,
                        **{f"{key}_ms": value for key, value in row.items()},
                        "efficiency": round(compute / found["step"], 3),
                    }
                )
            )


def on_ranks(size: int, *words: object) -> Any:
    """What rank 0 prints when `size` ranks run this script, one thread each."""
    command = ["mpiexec", "-n", str(size), sys.executable, __file__, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def messages() -> dict[str, float]:
    """Seconds of means of one number and of a million, of this rank."""
    found = {}
    for name, length in (("small", 1), ("large", 1_000_000)):
        array, seconds = np.ones(length, np.float16), []
        for _ in range(20):
            start = time.perf_counter()
            fe.distributed.all_reduce([array])
            seconds.append(time.perf_counter() - start)
        found[name] = statistics.median(seconds)
    return found


def step_seconds(name: str, batch_size: int) -> float:
    """Median seconds of a step of all ranks, batch_size images each."""
    model = fe.models.create(name, image_size=32, channels=3)
    run = fe.Trainer(model, "fp16", lr=0.01, distributed=True)
    rng, images = np.random.default_rng(0), batch_size * fe.distributed.size()
    x = rng.standard_normal((images, 32, 32, 3)).astype(np.float16)
    y, seconds = rng.integers(0, 10, images), []
    for _ in range(8):
        start = time.perf_counter()
        run.step(x, y)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def check(arguments: argparse.Namespace) -> None:
    """Measure messages on two ranks, predict steps, measure them; ranks beyond the cores share them."""
    times = on_ranks(2, "messages")
    rate = 2_000_000 / max(times["large"] - times["small"], 1e-9)  # 2 (P - 1) / P x 2 MB, P = 2
    alone = on_ranks(1, "step", arguments.model, arguments.batch_size)
    size, _ = work(arguments.model)
    here = Machine(0.0, rate, rate, 1 << 30, times["small"] / 2, 0.0)
    print(json.dumps({"swap_us": round(1e6 * here.start, 1), "GB_per_s": round(rate / 1e9, 2)}))
    cores = os.cpu_count() or 1
    for ranks in (1, 2, 4):
        found = step_time(here, ranks, alone * max(1, ranks / cores), size)
        measured = alone if ranks == 1 else on_ranks(ranks, "step", arguments.model, arguments.batch_size)
        print(
            json.dumps(
                {
                    "ranks": ranks,
                    "predicted_ms": round(1e3 * found["step"], 1),
                    "measured_ms": round(1e3 * measured, 1),
                    "ratio": round(measured / found["step"], 2),
                }
            )
        )


def drawn(rank: int, length: int) -> np.ndarray:
    """A rank's gradients, float16: a common part and noise ten times as large, over seven decades."""
    common = np.random.default_rng(0).standard_normal(length)
    scale = 10.0 ** np.random.default_rng(1).uniform(-5, 2, length)
    noise = np.random.default_rng(2 + rank).standard_normal(length)
    return ((common + 10 * noise) * scale / 10).astype(np.float16)


def errors(length: int) -> dict[str, Any]:
    """Errors of the three means over the ranks that run this, in ulps of the exact result."""
    size = fe.distributed.size()
    exact = np.mean([drawn(rank, length).astype(np.float64) for rank in range(size)], axis=0)
    ulp = np.spacing(np.abs(exact).astype(np.float16)).astype(np.float64)
    found: dict[str, Any] = {"ranks": size}
    for reduce in REDUCE:
        [mean] = fe.distributed.all_reduce([drawn(fe.distributed.rank(), length)], reduce)
        off = np.abs(mean.astype(np.float64) - exact) / ulp
        found[reduce] = {
            "mean_ulp": round(float(off.mean()), 4),
            "largest_ulp": round(float(off.max()), 4),
            "share_above_half": float(np.mean(off > 0.5)),
        }
    return found


def error(arguments: argparse.Namespace) -> None:
    """The error of each `reduce` for 2 to 16 ranks."""
    for ranks in (2, 4, 8, 16):
        print(json.dumps(on_ranks(ranks, "errors", arguments.length)), flush=True)


def main() -> None:
    if sys.argv[1:2] in (["messages"], ["step"], ["errors"]):
        fe.distributed.init()
        what, *words = sys.argv[1:]
        if what == "messages":
            found: Any = messages()
        elif what == "step":
            found = step_seconds(words[0], int(words[1]))
        else:
            found = errors(int(words[0]))
        if fe.distributed.rank() == 0:
            print(json.dumps(found), flush=True)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("gpus", "check", "error"))
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--length", type=int, default=1_000_000)
    arguments = parser.parse_args()
    if arguments.batch_size is None:
        arguments.batch_size = 256 if arguments.what == "gpus" else 64
    {"gpus": gpus, "check": check, "error": error}[arguments.what](arguments)


if __name__ == "__main__":
    main()
