"""PyTorch's contenders for a training step; without torch, the reason why there are none."""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .contender import Contender
from .deadline import at_most

NAMES = ("torch", "none")
# Eager steps on a processor; on a GPU what PyTorch does best there, eager and compiled.
PRECISIONS = ("fp32", "bf16", "fp16")
GPU_PRECISIONS = ("amp", "fp16", "compiled")
# On most processors PyTorch's FP16 convolutions are scalar code, a hundred times slower than FP32's.
SLOW_BATCH, SLOW_ROUNDS = 4, 3
ELSEWHERE = {"airbench94": "its peer is benchmarks/airbench_torch.py, which trains it"}  # by model
_MOST_SECONDS = 20.0  # of a step on that batch
_LONG_STEP = 2.0  # seconds that a step on the whole batch may take; else it is measured on the small one


@dataclass(frozen=True)
class Task:
    """What all do: a step of a network on one batch, x (N, H, W, C) and y (N,), by SGD with momentum."""

    model_name: str
    classes: int
    x: np.ndarray
    y: np.ndarray
    lr: float
    momentum: float
    device: str

    @property
    def on_gpu(self) -> bool:
        """Tell whether the device is a GPU."""
        return self.device.startswith("cuda")


def contenders(
    peer: str,
    task: Task,
    threads: int | None,
    note: Callable[[str], None],
    seconds: float | None = None,
) -> tuple[dict[str, Any] | None, list[Contender]]:
    """Return what was found of a peer, as JSON values, and its contenders.

    threads: how many torch gets, as many as we have; None leaves them. seconds: for each to be made ready;
    None is no limit. What cannot be measured is reported, not raised.
    """
    if peer == "none":
        return None, []
    found: dict[str, Any] = {"name": peer, "available": False, "reason": None, "version": None}
    if task.model_name in ELSEWHERE:
        return {**found, "reason": ELSEWHERE[task.model_name]}, []
    if importlib.util.find_spec("torch") is None:
        return {**found, "reason": "torch is not installed; get it with: pip install torch"}, []
    from . import torch_models, torch_step

    found["version"] = torch_step.VERSION
    why = torch_step.missing(task.device)
    if why is not None:
        return {**found, "reason": why}, []
    if threads is not None:
        torch_step.use_threads(threads)
    found |= {"available": True, "arrangements": {}, "left_out": {}}
    result = []
    for precision in GPU_PRECISIONS if task.on_gpu else PRECISIONS:
        name = f"{peer}-{precision}"
        note(f"{name}: layout and update")
        net = torch_models.create(task.model_name, task.classes, task.x.shape[1], task.x.shape[3])
        try:
            with at_most(seconds):
                contender = _contender(peer, task, precision, net)
        except Exception as error:  # whatever its compiler raises: the others are measured without it
            found["left_out"][name] = str(error).partition("\n")[0] or type(error).__name__
            continue
        found["arrangements"][name] = contender.step.arrangement  # type: ignore[attr-defined]
        result.append(contender)
        gc.collect()
    return found, result


def _contender(peer: str, task: Task, precision: str, net: Any) -> Contender:
    """Return PyTorch's contender; raises RuntimeError if it is too slow to be measured."""
    from . import torch_step

    def step_on(size: int) -> Callable[..., Any]:
        batch = task.x[:size], task.y[:size]
        place = torch_step.place(task.device)
        return partial(torch_step.Step, net, precision, *batch, task.lr, task.momentum, place)

    size, rounds = len(task.y), None
    if task.on_gpu:
        step = step_on(size)()
        step()  # compiles
        step.wait()
    else:
        if precision == "fp16":
            few = min(SLOW_BATCH, size)
            seconds = _seconds(step_on(few)())
            if seconds > _MOST_SECONDS:
                raise RuntimeError(f"a step on {few} images took {seconds:.0f} s")
            if seconds * size / few > _LONG_STEP:
                size, rounds = few, SLOW_ROUNDS
        step = torch_step.fastest(step_on(size))
    return Contender(peer, precision, size, step, rounds=rounds, wait=step.wait)


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
