"""A training step, measured: images per second against PyTorch's, memory, and where the time goes.

All contenders run in one process, turn by turn, so that a machine that slows down slows all of them. The
step is forward, backward and an SGD update with momentum on one synthetic batch that is on the device.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
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
from . import peers, roofline
from .contender import Contender, measure
from .profile import profile

EPOCH_IMAGES = 50_000  # of CIFAR-10, whose epochs the goals are for
# Seconds per epoch at batch 256 on an H200 that the engine sets out to reach: bytes and FLOPs of a step at
# 80 % and 50 % of what the GPU can do, and 1.5 us per kernel. Estimates, to be held against what is measured.
GOALS = {
    "resnet20": 0.11, "resnet32": 0.18, "resnet56": 0.31, "resnet110": 0.62, "resnet18": 0.46,
    "vgg16": 0.28, "vgg19": 0.35, "alexnet": 0.03, "alexnet-4096": 0.04, "mobilenetv2": 0.15,
    "densenet121": 0.37, "vit8": 0.15, "vit12": 0.22,
}  # fmt: skip
_USUAL = {"dnn": (28, 1)}  # image size and channels of the data that a network is for, where not CIFAR-10's
_CLASSES = 10
_LR, _MOMENTUM = 0.01, 0.9
_SETTLE_STEPS = 20  # enough for a dynamic loss scale to find its level


def run(
    model_name: str = "resnet20",
    batch_size: int = 128,
    precisions: Sequence[str] = ("fp16", "fp32", "mp"),
    *,
    image_size: int | None = None,
    channels: int | None = None,
    device: str | None = None,
    peer: str = "torch",
    peer_seconds: float | None = None,
    rounds: int = 7,
    seconds: float = 1.0,
    capture: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure a training step of a network under each precision, and of PyTorch where it is installed.

    Args:
        model_name: a name that `models.create` knows.
        batch_size: images in a step, >= 1.
        precisions: names of presets.
        image_size: height and width of the images; None means 32, for `dnn` MNIST's 28.
        channels: of the images; None means 3, for `dnn` 1.
        device: "cpu", "cuda", "cuda:1" or "reference"; None means "cpu".
        peer: "torch" measures PyTorch too, with as many threads; on a CPU in FP32, BF16 and FP16, in the
            memory layout and form of SGD that a short probe finds fastest, FP16 on a batch of 4 for a few
            steps where it is slow; on a GPU its steps are eager autocast ("amp"), eager FP16 and
            `torch.compile(mode="max-autotune")` with FP16 weights ("compiled"). "none" does not.
        peer_seconds: for each of the peer's steps to be made ready, compiled, say. One that takes longer, or
            fails, is named with its reason in `peer["left_out"]`; the others are measured. None: no limit.
        rounds: in each, every contender takes steps for about `seconds`, after an untimed one.
        seconds: of a contender in a round.
        capture: measure our captured step too, next to the eager one.
        note: hears what is being done.

    Returns:
        JSON values: contenders, ratios, memory ratio, time, implementations, roofline, peer, machine. Rates
        are medians over the rounds, memory is the backend's own count of one step's peak, each precision
        alone; time per operation and layer comes from a separate pass. On the CPU, `roofline` has the rates
        of FP32 multiply-adds and of a large copy, which take turns with the contenders, and contenders their
        shares of them (`bench.roofline`). A peer that is missing is reported in `peer`, not raised.

    Raises:
        ValueError: an argument is out of range or unknown.
        BackendUnavailable: the device is not there.
        UnsupportedPrecision: the device cannot honour a precision.

    >>> from fp16engine.bench import step
    >>> small = {"image_size": 8, "channels": 1, "device": "reference", "rounds": 1, "seconds": 0.001}
    >>> step.run("dnn", 2, ("fp32",), peer="none", **small)["contenders"][0]["name"]
    'fp32'
    """
    integer("rounds", rounds, 1)
    choice("peer", peer, peers.NAMES)
    if peer_seconds is not None:
        number("peer_seconds", peer_seconds, above=0)
    device = device or "cpu"
    usual_size, usual_channels = _USUAL.get(model_name.partition("+")[0], (32, 3))
    image_size = usual_size if image_size is None else image_size
    channels = usual_channels if channels is None else channels
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

    memory, times, work, ours = {}, {}, {}, []
    for name in precisions:
        note(f"{name}: memory and time per layer")
        one = trainer(name)
        images = batch(name)
        memory[name] = _memory(backend, one, images, y)
        work[name] = roofline.count(partial(one.train_batch, images, y))
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
    task = peers.Task(model_name, _CLASSES, x, y, _LR, _MOMENTUM, device)
    found, theirs = peers.contenders(peer, task, _threads(backend), note, peer_seconds)
    contenders, gauges = ours + theirs, roofline.gauges(backend)
    measure([*contenders, *gauges], rounds, seconds, note)
    best = {gauge.precision: median(gauge.rates) for gauge in gauges}
    flops = next(iter(work.values())).flops / batch_size
    rows = []
    for c in contenders:
        own = c.engine == "fp16engine"
        moved = work[c.precision].bytes / batch_size if own else None
        row = _row(c, memory[c.precision] if own else None)
        rows.append({**row, **roofline.shares(row["images_per_second"], flops, moved, best)})
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
        "roofline": best or None,
        "flops_per_image": flops,
        "peer": found,
        "machine": machine(device),
    }


def _threads(backend: Any) -> int | None:
    info = backend.info() if backend.capabilities.info else {}
    return info.get("threads")


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
