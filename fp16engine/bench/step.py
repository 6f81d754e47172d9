"""A training step, measured: images per second against PyTorch's, memory, and where the time goes.

All contenders run in one process, turn by turn, so that a machine that slows down slows all of them. The
step is forward, backward and an SGD update with momentum on one synthetic batch that is on the device.
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
from ..train.captured import CapturedStep
from ..validate import choice, integer, number
from .deadline import at_most
from .profile import profile

PEERS = ("torch",)
# Eager steps on a processor; on a GPU what PyTorch does best there, eager and compiled.
PEER_PRECISIONS = ("fp32", "bf16", "fp16")
GPU_PEER_PRECISIONS = ("amp", "fp16", "compiled")
EPOCH_IMAGES = 50_000  # of CIFAR-10, whose epochs the goals are for
# Seconds per epoch at batch 256 on an H200 that the engine sets out to reach: bytes and FLOPs of a step at
# 80 % and 50 % of what the GPU can do, and 1.5 us per kernel. Estimates, to be held against what is measured.
GOALS = {
    "resnet20": 0.11, "resnet32": 0.18, "resnet56": 0.31, "resnet110": 0.62, "resnet18": 0.46,
    "vgg16": 0.28, "vgg19": 0.35, "alexnet": 0.03, "alexnet-4096": 0.04, "mobilenetv2": 0.15,
    "densenet121": 0.37, "vit8": 0.15, "vit12": 0.22,
}  # fmt: skip
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
    captured: bool = False  # ours, replayed from a graph
    wait: Callable[[], object] = lambda: None  # until the device has done what the steps asked for
    kernels: Callable[[], int | None] = lambda: None  # of a captured step
    rates: list[float] = field(default_factory=list)
    host_seconds: list[float] = field(default_factory=list)  # per step, until the next one may be asked for

    @property
    def name(self) -> str:
        """Return e.g. "fp16" or "fp16-captured" for ours and "torch-fp16" for a peer."""
        own = f"{self.precision}-captured" if self.captured else self.precision
        return own if self.engine == "fp16engine" else f"{self.engine}-{self.precision}"


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
    peer_seconds: float | None = None,
    rounds: int = 7,
    seconds: float = 1.0,
    capture: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure a training step of a network under each precision, and of PyTorch where it is asked for.

    Args:
        model_name: a name that `models.create` knows.
        batch_size: images in a step, >= 1.
        precisions: names of presets.
        image_size: height and width of the images.
        channels: of the images.
        device: "cpu", "cuda", "cuda:1" or "reference"; None means "cpu".
        threads: of the CPU backend; None leaves them.
        peer: "torch" measures PyTorch too. On a CPU its pure FP16 runs on a batch of 4 for a few steps,
            because it may take a hundred times longer; on a GPU its steps are eager autocast ("amp"), eager
            FP16 and `torch.compile(mode="max-autotune")` with FP16 weights ("compiled").
        peer_seconds: for each of the peer's steps to be made ready, compiled, say. One that takes longer, or
            fails, is named with its reason in `peer["left_out"]`; the others are measured. None: no limit.
        rounds: in each, every contender takes steps for about `seconds`, after an untimed one.
        seconds: of a contender in a round.
        capture: measure our captured step too, next to the eager one.
        note: hears what is being done.

    Returns:
        JSON values: contenders, ratios, memory ratio, time, implementations, peer, machine. Rates are medians
        over the rounds, memory is the backend's own count of one step's peak, each precision alone; time per
        operation and layer comes from a separate pass. A peer that is missing is reported in `peer`, not
        raised.

    Raises:
        ValueError: an argument is out of range or unknown.
        BackendUnavailable: the device is not there.
        UnsupportedPrecision: the device cannot honour a precision.

    >>> from fp16engine.bench import step
    >>> small = {"image_size": 8, "channels": 1, "device": "reference", "rounds": 1, "seconds": 0.001}
    >>> step.run("dnn", 2, ("fp32",), **small)["contenders"][0]["name"]
    'fp32'
    """
    integer("rounds", rounds, 1)
    if peer_seconds is not None:
        number("peer_seconds", peer_seconds, above=0)
    if peer is not None:
        choice("peer", peer, PEERS)
    device = device or "cpu"
    backend: Any = backends.get(device)
    stream = backend.stream if backend.capabilities.stream else None
    wait: Callable[[], object] = (lambda: None) if stream is None else stream.synchronize
    generator = np.random.Generator(np.random.Philox(0))
    x = generator.standard_normal((batch_size, image_size, image_size, channels), np.float32)
    y = generator.integers(0, _CLASSES, batch_size)

    if capture and not backend.capabilities.captured_steps:
        raise ValueError(f"capture must be False on {device!r}, which records no steps, got True")

    def trainer(precision: str, **options: Any) -> Trainer:
        model = models.create(model_name, _CLASSES, image_size, channels, seed=0)
        return Trainer(
            model,
            precision=precision,
            optimizer="sgd",
            lr=_LR,
            momentum=_MOMENTUM,
            device=device,
            **options,
        )

    def batch(precision: str) -> Any:
        return backend.from_numpy(x.astype(Precision.get(precision).storage))

    memory, times, ours = {}, {}, []
    for name in precisions:
        note(f"{name}: memory and time per layer")
        one = trainer(name)
        images = batch(name)
        memory[name] = _memory(backend, one, images, y)
        times[name] = profile(one.model, partial(one.train_batch, images, y), steps=5, wait=wait)
        parameters = one.model.num_parameters()
        del one
        gc.collect()
    for name in precisions:
        for captured in (False, True) if capture else (False,):
            one, images = trainer(name), batch(name)
            mine = Contender("fp16engine", name, batch_size, partial(one.train_batch, images, y), wait=wait)
            if captured:
                replayed = CapturedStep.on_batch(one, images, y)
                mine.step, mine.captured = replayed.again, True
                mine.kernels = partial(getattr, replayed, "kernels")
            ours.append(mine)
    found, peers = _peers(peer, peer_seconds, model_name, x, y, device, threads, note)
    contenders = ours + peers
    measure(contenders, rounds, seconds, note)
    rows = [_row(c, memory.get(c.precision) if c.engine == "fp16engine" else None) for c in contenders]
    rates = {row["name"]: row["images_per_second"] for row in rows}
    first = "fp16-captured" if "fp16-captured" in rates else "fp16"
    return {
        "version": __version__,
        "model": model_name,
        "parameters": parameters,
        "batch_size": batch_size,
        "image_size": image_size,
        "channels": channels,
        "rounds": rounds,
        "contenders": rows,
        "ratios": {f"{first}/{k}": rates[first] / v for k, v in rates.items() if k != first}
        if first in rates
        else {},
        "goal_seconds_per_epoch": GOALS.get(model_name) if device.startswith("cuda") else None,
        "memory_ratio_fp16_fp32": _ratio(memory, "fp16", "fp32"),
        "time": times,
        "implementations": list(backend.implementations()) if backend.capabilities.implementations else [],
        "peer": found,
        "machine": machine(device),
    }


def _memory(backend: Any, trainer: Trainer, x: Any, y: np.ndarray) -> dict[str, int]:
    """Return peak and scratch bytes of a step: parameters, state, activations, gradients and the batch."""
    for _ in range(_SETTLE_STEPS):
        if trainer.train_batch(x, y)[0].applied:
            break
    gc.collect()
    backend.reset_peak()
    trainer.train_batch(x, y)
    now = backend.memory()
    return {"peak": int(now["peak"]), "scratch": int(now["scratch"])}


def _peers(
    peer: str | None,
    seconds: float | None,
    model_name: str,
    x: np.ndarray,
    y: np.ndarray,
    device: str,
    threads: int | None,
    note: Callable[[str], None],
) -> tuple[dict[str, Any] | None, list[Contender]]:
    if peer is None:
        return None, []
    if importlib.util.find_spec("torch") is None:
        reason = "torch is not installed; get it with: pip install torch"
        return {"name": peer, "available": False, "reason": reason, "version": None}, []
    from . import torch_models

    left_out: dict[str, str] = {}
    found = {
        "name": peer,
        "available": True,
        "reason": None,
        "version": torch_models.VERSION,
        "left_out": left_out,
    }
    if model_name not in torch_models.names():
        reason = f"{model_name} has no peer network, {', '.join(torch_models.names())} have"
        return {**found, "available": False, "reason": reason}, []
    on_gpu = device.startswith("cuda")
    why = torch_models.missing(device)
    if why is not None:
        return {**found, "available": False, "reason": why}, []
    if threads is not None:
        torch_models.use_threads(threads)
    state = models.create(model_name, _CLASSES, x.shape[1], x.shape[3], seed=0).state_dict()
    result = []
    for precision in GPU_PEER_PRECISIONS if on_gpu else PEER_PRECISIONS:
        net = torch_models.create(model_name, _CLASSES, x.shape[1], x.shape[3])
        torch_models.load(net, state)
        slow = precision == "fp16" and not on_gpu
        size = min(SLOW_BATCH, len(y)) if slow else len(y)
        note(f"{peer}-{precision}: first step")
        try:
            with at_most(seconds):
                step = torch_models.Step(
                    net, precision, x[:size], y[:size], _LR, _MOMENTUM, torch_models.place(device)
                )
                step()
                step.wait()
        except Exception as error:  # whatever its compiler raises: the others are measured without it
            left_out[precision] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            continue
        result.append(Contender(peer, precision, size, step, rounds=3 if slow else None, wait=step.wait))
    return found, result


def measure(contenders: list[Contender], rounds: int, seconds: float, note: Callable[[str], None]) -> None:
    """Fill the rates of the contenders: in each round every one takes steps for about `seconds` seconds."""
    for contender in contenders:
        note(f"{contender.name}: warm-up")
        slow = contender.rounds is not None
        for _ in range(1 if slow else 3):
            contender.step()
        contender.wait()
        start = time.perf_counter()
        contender.step()
        contender.wait()
        one = time.perf_counter() - start
        contender.steps = 1 if slow else int(min(max(seconds / one, 1), _MAX_STEPS))
    for turn in range(rounds):
        note(f"round {turn + 1} of {rounds}")
        for contender in contenders:
            if contender.rounds is not None and turn >= contender.rounds:
                continue
            if contender.rounds is None:
                contender.step()  # fills caches and wakes the threads of this contender's library
                contender.wait()
            start = time.perf_counter()
            for _ in range(contender.steps):
                contender.step()
            asked = time.perf_counter() - start
            contender.wait()
            elapsed = time.perf_counter() - start
            contender.host_seconds.append(asked / contender.steps)
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
        "kernels_per_step": contender.kernels() if contender.captured else None,
        "host_us_per_step": 1e6 * median(contender.host_seconds) if contender.captured else None,
        "seconds_per_epoch": EPOCH_IMAGES / rate,
        "peak_memory_bytes": memory["peak"] if memory else None,
        "scratch_bytes": memory["scratch"] if memory else None,
    }


def _ratio(memory: dict[str, dict[str, int]], one: str, other: str) -> float | None:
    if one not in memory or other not in memory or not memory[other]["peak"]:
        return None
    return memory[one]["peak"] / memory[other]["peak"]
