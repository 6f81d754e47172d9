"""A training step, measured: images per second beside PyTorch's, memory, and where the time goes.

All contenders run in one process, turn by turn, so that a machine that slows down slows all of them. The
step is forward, backward and an SGD update with momentum on one synthetic batch that is in memory already.
"""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from .. import backend as backends
from .. import models
from .._version import __version__
from ..doctor import machine
from ..precision import Precision
from ..train import Trainer
from .steptime import profile

PEERS = ("torch",)
PEER_PRECISIONS = ("fp32", "bf16", "fp16")
SLOW_BATCH = 4  # for PyTorch's FP16, whose convolutions fall back to scalar code on most CPUs
_CLASSES = 10
_LR, _MOMENTUM = 0.01, 0.9
_SETTLE_STEPS = 20  # enough for a dynamic loss scale to find its level
_MAX_STEPS = 200


@dataclass
class Contender:
    """One thing to measure: a step, how many images it takes, and the rates seen so far."""

    engine: str
    precision: str
    batch_size: int
    step: Callable[[], object]
    steps: int = 1  # timed steps per round
    rounds: int | None = None  # None: every round
    rates: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return e.g. "fp16" for ours and "torch-fp16" for a peer."""
        return self.precision if self.engine == "fp16engine" else f"{self.engine}-{self.precision}"


def run(
    model_name: str = "resnet20",
    batch_size: int = 128,
    precisions: Sequence[str] = ("fp16", "fp32", "mp"),
    *,
    image_size: int = 32,
    channels: int = 3,
    device: str | None = None,
    threads: int | None = None,
    peer: str | None = None,
    rounds: int = 7,
    seconds: float = 1.0,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure a training step of `model_name` under each precision, and of `peer` ("torch") if installed.

    In each of `rounds` rounds every contender takes turns of about `seconds` seconds, after an untimed step;
    rates are medians over the rounds. Memory is the backend's own count of one step's peak, each precision
    alone. Time per operation and layer comes from a separate pass. PyTorch's pure FP16 runs on a batch of
    4 for a few steps, because it may take a hundred times longer.

    Returns JSON values: contenders, ratios, memory_ratio, time, implementations, peer, machine.
    Raises ValueError for wrong arguments, BackendUnavailable, UnsupportedPrecision. A peer that is missing
    is reported in `peer`, not raised.
    """
    if rounds < 1:
        raise ValueError(f"rounds: {rounds} given, at least 1 is wanted")
    if peer is not None and peer not in PEERS:
        raise ValueError(f"peer: {peer!r} given, {' or '.join(PEERS)} is wanted")
    device = device or "cpu"
    backend: Any = backends.get(device)
    generator = np.random.Generator(np.random.Philox(0))
    x = generator.standard_normal((batch_size, image_size, image_size, channels), np.float32)
    y = generator.integers(0, _CLASSES, batch_size)

    def trainer(precision: str) -> Trainer:
        model = models.create(model_name, _CLASSES, image_size, channels, seed=0)
        return Trainer(model, precision=precision, optimizer="sgd", lr=_LR, momentum=_MOMENTUM, device=device)

    memory, times, ours = {}, {}, []
    for name in precisions:
        note(f"{name}: memory and time per layer")
        one = trainer(name)
        images = x.astype(Precision.get(name).storage)
        memory[name] = _memory(backend, one, images, y)
        times[name] = profile(one.model, partial(one.step, images, y), steps=5)
        parameters = one.model.num_parameters()
        del one
        gc.collect()
    for name in precisions:
        one, images = trainer(name), x.astype(Precision.get(name).storage)
        ours.append(Contender("fp16engine", name, batch_size, partial(one.step, images, y)))
    found, peers = _peers(peer, model_name, x, y, ours, threads)
    contenders = ours + peers
    _measure(contenders, rounds, seconds, note)
    rows = [_row(c, memory.get(c.precision) if c.engine == "fp16engine" else None) for c in contenders]
    rates = {row["name"]: row["images_per_second"] for row in rows}
    return {
        "version": __version__,
        "model": model_name,
        "parameters": parameters,
        "batch_size": batch_size,
        "image_size": image_size,
        "channels": channels,
        "rounds": rounds,
        "contenders": rows,
        "ratios": {f"fp16/{k}": rates["fp16"] / v for k, v in rates.items() if k != "fp16"}
        if "fp16" in rates
        else {},
        "memory_ratio_fp16_fp32": _ratio(memory, "fp16", "fp32"),
        "time": times,
        "implementations": list(backend.implementations()) if hasattr(backend, "implementations") else [],
        "peer": found,
        "machine": machine(device),
    }


def _memory(backend: Any, trainer: Trainer, x: np.ndarray, y: np.ndarray) -> dict[str, int]:
    """Return peak and scratch bytes of a step: parameters, state, activations, gradients and the batch."""
    for _ in range(_SETTLE_STEPS):
        if trainer.step(x, y).applied:
            break
    gc.collect()
    backend.reset_peak()
    trainer.step(x, y)
    now = backend.memory()
    return {"peak": int(now["peak"]), "scratch": int(now["scratch"])}


def _peers(
    peer: str | None,
    model_name: str,
    x: np.ndarray,
    y: np.ndarray,
    ours: list[Contender],
    threads: int | None,
) -> tuple[dict[str, Any] | None, list[Contender]]:
    if peer is None:
        return None, []
    if importlib.util.find_spec("torch") is None:
        reason = "torch is not installed; get it with: pip install torch"
        return {"name": peer, "available": False, "reason": reason, "version": None}, []
    from . import torch_peer

    found = {"name": peer, "available": True, "reason": None, "version": torch_peer.VERSION}
    if model_name not in torch_peer.names():
        reason = f"{model_name} has no peer network, {', '.join(torch_peer.names())} have"
        return {**found, "available": False, "reason": reason}, []
    if threads is not None:
        torch_peer.use_threads(threads)
    state = models.create(model_name, _CLASSES, x.shape[1], x.shape[3], seed=0).state_dict()
    result = []
    for precision in PEER_PRECISIONS:
        net = torch_peer.create(model_name, _CLASSES, x.shape[1], x.shape[3])
        torch_peer.load(net, state)
        size = min(SLOW_BATCH, len(y)) if precision == "fp16" else len(y)
        step = torch_peer.Step(net, precision, x[:size], y[:size], _LR, _MOMENTUM)
        result.append(Contender(peer, precision, size, step, rounds=3 if precision == "fp16" else None))
    return found, result


def _measure(contenders: list[Contender], rounds: int, seconds: float, note: Callable[[str], None]) -> None:
    for contender in contenders:
        note(f"{contender.name}: warm-up")
        slow = contender.rounds is not None
        for _ in range(1 if slow else 3):
            contender.step()
        start = time.perf_counter()
        contender.step()
        one = time.perf_counter() - start
        contender.steps = 1 if slow else int(min(max(seconds / one, 1), _MAX_STEPS))
    for number in range(rounds):
        note(f"round {number + 1} of {rounds}")
        for contender in contenders:
            if contender.rounds is not None and number >= contender.rounds:
                continue
            if contender.rounds is None:
                contender.step()  # fills caches and wakes the threads of this contender's library
            start = time.perf_counter()
            for _ in range(contender.steps):
                contender.step()
            elapsed = time.perf_counter() - start
            contender.rates.append(contender.steps * contender.batch_size / elapsed)


def _row(contender: Contender, memory: dict[str, int] | None) -> dict[str, Any]:
    rate = median(contender.rates)
    return {
        "name": contender.name,
        "engine": contender.engine,
        "precision": contender.precision,
        "batch_size": contender.batch_size,
        "images_per_second": rate,
        "lowest": min(contender.rates),
        "highest": max(contender.rates),
        "step_ms": 1e3 * contender.batch_size / rate,
        "timed_steps": contender.steps * len(contender.rates),
        "peak_memory_bytes": memory["peak"] if memory else None,
        "scratch_bytes": memory["scratch"] if memory else None,
    }


def _ratio(memory: dict[str, dict[str, int]], one: str, other: str) -> float | None:
    if one not in memory or other not in memory or not memory[other]["peak"]:
        return None
    return memory[one]["peak"] / memory[other]["peak"]
