"""A training step in PyTorch, arranged the way it runs fastest. Importable only where torch is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# What weights are kept in: autocast ("amp") keeps FP32 ones and casts them at every use.
DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "amp": torch.float32,
    "compiled": torch.float16,
}
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
UPDATES = ("fused", "foreach")  # forms of torch.optim.SGD
VERSION = torch.__version__
_PROBE_STEPS = 3
_LONG_STEP = 3.0  # seconds; a step that takes longer is probed once


def missing(device: str) -> str | None:
    """Return why torch cannot be measured on `device`, None if it can."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        return "torch is here, but it finds no GPU"
    return None


def place(device: str) -> str:
    """Return torch's name of our device: its own for a GPU, the processor for everything else."""
    return device if device.startswith("cuda") else "cpu"


def use_threads(count: int) -> None:
    """Set the number of threads that torch computes with."""
    torch.set_num_threads(count)


class Step:
    """A training step of a network on one batch: forward, backward, SGD with momentum.

    net: with the L2 factors of its parameters as their `weight_decay`; it becomes the step's own. precision:
    "fp32", "bf16", "fp16" (weights and all), "amp" (FP32 weights, autocast to FP16, a gradient scaler) or
    "compiled" (FP16 weights, torch.compile: mode "max-autotune" on a GPU; on a processor, where it is for
    tests, only traced). x: (N, H, W, C), y: (N,), moved to `device` once. layout: of images and kernels, one
    of `LAYOUTS`; update: one of `UPDATES`.
    """

    def __init__(
        self,
        net: nn.Module,
        precision: str,
        x: np.ndarray,
        y: np.ndarray,
        lr: float,
        momentum: float,
        device: str = "cpu",
        layout: str = "channels_last",
        update: str = "fused",
    ) -> None:
        dtype, form = DTYPES[precision], LAYOUTS[layout]
        self.arrangement = f"{layout}, {update} SGD"
        self._gpu = device.startswith("cuda")
        net = net.to(device, dtype).to(memory_format=form).train()
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in net.parameters():
            groups.setdefault(getattr(parameter, "weight_decay", None) or 0.0, []).append(parameter)
        self._optimizer = torch.optim.SGD(
            [{"params": group, "weight_decay": factor} for factor, group in groups.items()],
            lr=lr,
            momentum=momentum,
            **{update: True},
        )
        images = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        images = images.to(device, torch.float32 if precision == "amp" else dtype)
        self._x = images.contiguous(memory_format=form)
        self._y = torch.from_numpy(y).to(device)
        self._autocast = precision == "amp"
        self._scaler = torch.amp.GradScaler(torch.device(device).type, enabled=self._autocast)
        self._compiled = precision == "compiled"

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(net(images), labels)

        self._loss: Any = loss
        if self._compiled:
            how: dict[str, Any] = {"mode": "max-autotune"} if self._gpu else {"backend": "eager"}
            self._loss = torch.compile(loss, **how)

    def __call__(self) -> Tensor:
        """Take the step and return the loss, which on a GPU may not be there yet: see `wait`."""
        if self._compiled and self._gpu:
            torch.compiler.cudagraph_mark_step_begin()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._x.device.type, torch.float16, enabled=self._autocast):
            loss: Tensor = self._loss(self._x, self._y)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()

    def wait(self) -> None:
        """Wait for the GPU."""
        if self._gpu:
            torch.cuda.synchronize()


def fastest(make: Callable[..., Step]) -> Step:
    """Return make(layout=..., update=...) with what a short probe finds fastest: a layout, then an update.

    Its steps are made one after the other, of one network, and the last one is returned.
    """
    seconds: dict[tuple[str, str], float] = {}
    for layout in LAYOUTS:
        seconds[layout, UPDATES[0]] = _seconds(make(layout=layout, update=UPDATES[0]))
    layout, _ = min(seconds, key=seconds.__getitem__)
    for update in UPDATES[1:]:
        seconds[layout, update] = _seconds(make(layout=layout, update=update))
    layout, update = min(seconds, key=seconds.__getitem__)
    return make(layout=layout, update=update)


def _seconds(step: Step) -> float:
    """Return the shortest of a few steps, after one that is not counted unless it is long."""
    times: list[float] = []
    for _ in range(1 + _PROBE_STEPS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
        if times[-1] > _LONG_STEP:
            break
    return min(times)
