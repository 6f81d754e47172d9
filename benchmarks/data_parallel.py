"""One run on several processes, measured here: its bits, what a killed rank costs, how much is hidden.

    python benchmarks/data_parallel.py bits [--ranks 1,2,4] [--steps 50] [--cifar DIR] [--local-batch 16]
    python benchmarks/data_parallel.py kill [--times 50] [--seed 0]
    python benchmarks/data_parallel.py overlap [--steps 30] [--model resnet20] [--batch-size 64]

bits: digests of all that was trained after --steps steps on P ranks, next to one process that accumulates the
same micro-batches, of digits or of CIFAR-10. kill: a random rank gets SIGKILL at a random step, the run is
resumed, and must end with the bits of an undisturbed one. overlap: seconds per step with the exchange during
the backward pass and after it, the share of the exchange that training did not wait for, and the cost of
`distributed=True` in one process. Needs mpi4py and mpiexec.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from turns import images, step_seconds

import fp16engine as fe

PRECISIONS = ("fp16", "mp", "hbfp6")
RATE = 0.05


def trainer(asked: dict[str, Any]) -> fe.Trainer:
    """A trainer of a network for digits (8x8) or CIFAR-10 (32x32)."""
    size, channels = (32, 3) if asked["data"] != "digits" else (8, 1)
    model = fe.models.create(asked["model"], image_size=size, channels=channels)
    own = {"distributed": True} if asked["distributed"] else {"accumulate": asked["accumulate"]}
    return fe.Trainer(model, asked["precision"], lr=RATE, seed=1, **own)


def dataset(asked: dict[str, Any]) -> fe.data.Dataset:
    """The first images of a data set: enough for the steps that are asked for, in two epochs."""
    data = fe.data.digits() if asked["data"] == "digits" else fe.data.load("image_folder", asked["data"])
    return data.limit(asked["images"])


def digest(run: fe.Trainer) -> str:
    """Of weights, running statistics, optimizer state, counters and loss scale."""
    found = hashlib.sha256(json.dumps(run.state_dict(), sort_keys=True).encode())
    for part in (run.model.state_dict(), run.optimizer.state_dict()):
        for name in sorted(part):
            found.update(np.ascontiguousarray(part[name]).data if isinstance(part[name], np.ndarray) else b"")
    return found.hexdigest()[:16]


def ranks(size: int, command: str, asked: dict[str, Any], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of this script on ranks, one thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = ["mpiexec", "-n", str(size), sys.executable, __file__, command, json.dumps(asked)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, **options)


def on_ranks(size: int, command: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What each rank prints, one JSON table each; mpiexec may join their lines."""
    done = ranks(size, command, asked)
    if done.returncode:
        raise SystemExit(done.stderr)
    found, text = [], done.stdout.strip()
    while text:
        one, end = json.JSONDecoder().raw_decode(text)
        found.append(one)
        text = text[end:].lstrip()
    return found


def train(asked: dict[str, Any]) -> dict[str, Any]:
    """Train; the digest and the steps."""
    run = trainer(asked)
    options = {"out": asked["out"], "checkpoint_every": 1} if asked.get("out") else {}
    resume = bool(options) and (Path(asked["out"]) / "checkpoint.json").exists()
    if asked.get("victim") == fe.distributed.rank():
        run.callbacks.append(KillAt(asked["at"]))
    run.fit(dataset(asked), asked["epochs"], asked["batch_size"], resume=resume, progress=False, **options)
    return {"digest": digest(run), "steps": run.step_count, "applied": run.applied_steps}


class KillAt(fe.train.Callback):
    """Ends this process after a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step(self, trainer: fe.Trainer, result: Any) -> None:
        if trainer.step_count == self.at:
            os.kill(os.getpid(), 9)


def bits(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare digests for every precision and number of ranks."""
    rows, data = [], arguments.cifar or "digits"
    for precision in PRECISIONS:
        for size in arguments.ranks:
            step = arguments.local_batch * size
            asked = {
                "data": data,
                "model": "resnet20",
                "precision": precision,
                "images": step * arguments.steps // 2,
                "batch_size": arguments.local_batch,
                "epochs": 2,
                "accumulate": size,
            }
            if data == "digits":  # 1,438 images: more epochs of what there is
                asked["images"] = min(asked["images"], step * 10)
                asked["epochs"] = arguments.steps * step // asked["images"]
            [alone] = on_ranks(1, "train", {**asked, "distributed": False})
            found = on_ranks(size, "train", {**asked, "distributed": True})
            row = {
                "data": "digits" if data == "digits" else "cifar10",
                "precision": precision,
                "ranks": size,
                **alone,
                "equal": len(found) == size and all(one == alone for one in found),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def kill(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Kill a random rank at a random step, so often, and resume."""
    draw = random.Random(arguments.seed)
    asked = {
        "data": "digits",
        "model": "dnn",
        "precision": "mp",
        "images": 128,
        "batch_size": 16,
        "epochs": 3,
        "accumulate": 2,
        "distributed": True,
    }
    expected = on_ranks(2, "train", asked)[0]
    rows = []
    for i in range(arguments.times):
        with tempfile.TemporaryDirectory() as folder:
            told = {**asked, "out": folder, "victim": draw.randrange(2), "at": draw.randrange(1, 12)}
            start = time.monotonic()
            killed = ranks(2, "train", told, timeout=120)
            seconds = time.monotonic() - start
            saved = fe.Checkpoint.load(folder).step
            found = on_ranks(2, "train", {**asked, "out": folder})
            row = {
                "run": i,
                "victim": told["victim"],
                "at": told["at"],
                "ended": killed.returncode != 0,
                "seconds": round(seconds, 1),
                "saved_step": saved,
                "equal": all(one == expected for one in found),
            }
        rows.append(row)
        print(json.dumps(row), flush=True)
    print(
        json.dumps(
            {
                "times": len(rows),
                "all_ended": all(row["ended"] for row in rows),
                "all_equal": all(row["equal"] for row in rows),
                "longest_seconds": max(row["seconds"] for row in rows),
                "steps_lost_at_most": max(row["at"] - row["saved_step"] for row in rows),
            }
        )
    )
    return rows


def timed(asked: dict[str, Any]) -> dict[str, Any]:
    """Seconds per step of this rank; with "late", the exchange starts after the backward pass."""
    from fp16engine.distributed import exchange

    if asked["late"]:
        exchange.ExchangedSum._start_ready = lambda self: None  # type: ignore[method-assign]
    run, data = trainer(asked), fe.data.digits()
    rng = np.random.default_rng(0)
    size = asked["batch_size"] * (fe.distributed.size() if asked["distributed"] else asked["accumulate"])
    shape = (size, 8, 8, 1) if asked["data"] == "digits" else (size, 32, 32, 3)
    x = rng.standard_normal(shape).astype(np.float16)
    y = rng.integers(0, len(data.classes), size)
    exchanger = getattr(run.state.parallel, "exchanger", None)
    seconds = []
    for step in range(asked["steps"] + 3):
        if step == 3 and exchanger is not None:
            exchanger.busy = exchanger.waited = 0.0
        start = time.perf_counter()
        run.step(x, y)
        seconds.append(time.perf_counter() - start)
    found = {"step_ms": round(1e3 * statistics.median(seconds[3:]), 2)}
    if exchanger is not None:
        found["exchange_ms"] = round(1e3 * exchanger.busy / asked["steps"], 2)
        found["waited_ms"] = round(1e3 * exchanger.waited / asked["steps"], 2)
    return found


def overlap(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Two ranks, exchange during and after the backward pass; one process with and without `distributed`."""
    asked = {
        "data": "synthetic",
        "model": arguments.model,
        "precision": "fp16",
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
        "accumulate": 1,
    }
    rows = []
    for turn in range(arguments.turns):
        for name, size, options in (
            ("2 ranks, exchange during backward", 2, {"distributed": True, "late": False}),
            ("2 ranks, exchange after backward", 2, {"distributed": True, "late": True}),
        ):
            row = {"turn": turn, "run": name, **on_ranks(size, "timed", {**asked, **options})[0]}
            if "exchange_ms" in row:
                row["hidden"] = round(1 - row["waited_ms"] / row["exchange_ms"], 3)
            rows.append(row)
            print(json.dumps(row), flush=True)
    rows.append(alone(asked, arguments.steps))
    print(json.dumps(rows[-1]), flush=True)
    return rows


def alone(asked: dict[str, Any], steps: int) -> dict[str, Any]:
    """What `distributed=True` costs a process alone: two trainers that take turns, step by step."""
    trainers = {f"distributed={on}": trainer({**asked, "distributed": on}) for on in (False, True)}
    seconds = step_seconds(trainers, images(asked["batch_size"]), steps)
    plain, distributed = seconds.values()
    found = {name: round(1e3 * value, 2) for name, value in seconds.items()}
    return {"run": "one process", "step_ms": found, "overhead": round(distributed / plain - 1, 4)}


def main() -> None:
    if sys.argv[1:2] in (["train"], ["timed"]):
        asked = json.loads(sys.argv[2])
        fe.distributed.init()
        print(json.dumps({"train": train, "timed": timed}[sys.argv[1]](asked)), flush=True)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("bits", "kill", "overlap"))
    parser.add_argument("--ranks", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument(
        "--cifar", metavar="DIR", help="CIFAR-10 as a folder of images or its archive, in place of digits"
    )
    parser.add_argument(
        "--local-batch", type=int, default=16, metavar="N", help="images of a micro-batch in bits"
    )
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the rows as JSON")
    arguments = parser.parse_args()
    rows = {"bits": bits, "kill": kill, "overlap": overlap}[arguments.what](arguments)
    if arguments.out:
        arguments.out.write_text(json.dumps({"what": arguments.what, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
