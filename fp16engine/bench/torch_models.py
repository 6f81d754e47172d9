"""The same networks in PyTorch, to measure a training step against ours. Importable only where torch is.

Same layers, same padding, same shortcuts, same optimizer as `fp16engine.models`, written the way PyTorch
runs them best: channels_last memory, in-place ReLU, one SGD with momentum, fused on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import models
from .. import nn as ours
from ..models.dnn import HIDDEN
from ..models.resnet import KERNEL_DECAY, WIDTHS

# What weights are kept in: autocast ("amp") keeps FP32 ones and casts them at every use.
DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "amp": torch.float32,
    "compiled": torch.float16,
}
VERSION = torch.__version__
_SEQUENTIAL = ("alexnet", "alexnet-4096", "vgg16", "vgg19")
_DEPTHS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}


def names() -> list[str]:
    """Return the networks that have a peer here."""
    return ["dnn", *_DEPTHS, *_SEQUENTIAL]


def missing(device: str) -> str | None:
    """Return why torch cannot be measured on `device`, None if it can."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        return "torch is here, but it finds no GPU"
    return None


def place(device: str) -> str:
    """Return torch's name of our device: its own for a GPU, the processor for everything else."""
    return device if device.startswith("cuda") else "cpu"


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # torch's momentum is one minus ours


def _conv3x3(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Apply a 3x3 convolution with TensorFlow's "same" padding."""
    if conv.stride == (2, 2):  # an even side is padded at its end only, an odd one at both
        x = F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1))
    return conv(x)


class Unit(nn.Module):
    """As `fp16engine.models.resnet.Unit`."""

    def __init__(self, channels: int, width: int, stride: int, preactivated: bool) -> None:
        super().__init__()
        self.stride, self.preactivated = stride, preactivated
        before = (width - channels) // 2
        self.pads = (before, width - channels - before)
        self.norm1 = _norm(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1 if stride == 1 else 0)
        self.norm2 = _norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> (N, width, H / stride, W / stride)."""
        y = F.relu(self.norm1(x), inplace=True)
        shortcut = y if self.preactivated else x
        if self.stride > 1:
            shortcut = F.avg_pool2d(shortcut, self.stride, ceil_mode=True, count_include_pad=False)
        if any(self.pads):
            shortcut = F.pad(shortcut, (0, 0, 0, 0, *self.pads))
        y = F.relu(self.norm2(_conv3x3(y, self.conv1)), inplace=True)
        return self.conv2(y) + shortcut


class ResNet(nn.Module):
    """As `fp16engine.models.resnet.ResNet`."""

    def __init__(self, depth: int, num_classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, WIDTHS[0], 3, padding=1)
        units, inputs = [], WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            for i in range((depth - 2) // 6):
                stride = 2 if stage > 0 and i == 0 else 1
                units.append(Unit(inputs, width, stride, preactivated=stage == 0 and i == 0))
                inputs = width
        self.units = nn.ModuleList(units)
        self.norm = _norm(inputs)
        self.classifier = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> (N, num_classes)."""
        x = self.stem(x)
        for unit in self.units:
            x = unit(x)
        return self.classifier(F.relu(self.norm(x), inplace=True).mean((2, 3)))


class Convolution(nn.Conv2d):
    """A 3x3 convolution as ours: TensorFlow's "same" padding."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W)."""
        return self._conv_forward(_same(x, self), self.weight, self.bias)


def _same(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Pad an image as TensorFlow's "same" does: what is odd goes to the end."""
    pads: list[int] = []
    for size, kernel, stride in zip(x.shape[:1:-1], conv.kernel_size[::-1], conv.stride[::-1], strict=True):
        whole = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [whole // 2, whole - whole // 2]
    return F.pad(x, pads) if any(pads) else x


class Flatten(nn.Module):
    """The features in our order, (H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> (N, H * W * C)."""
        return x.permute(0, 2, 3, 1).flatten(1)


def _layer(layer: ours.Module, flat: bool) -> nn.Module:
    """Return torch's layer of one of ours."""
    if isinstance(layer, ours.Conv2d):
        k, height, width, c = layer.weight.shape
        stride = layer.stride if isinstance(layer.stride, tuple) else (layer.stride, layer.stride)
        if stride == (1, 1) and (height, width) == (3, 3):
            return nn.Conv2d(c, k, 3, padding=1)
        return Convolution(c, k, (height, width), stride)
    if isinstance(layer, ours.Linear):
        return nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
    if isinstance(layer, ours.BatchNorm2d):
        return nn.BatchNorm1d(layer.gamma.size, 1e-3, 0.01) if flat else _norm(layer.gamma.size)
    if isinstance(layer, ours.MaxPool2d):
        return nn.MaxPool2d(layer.size, layer.stride)
    if isinstance(layer, ours.Dropout):
        return nn.Dropout(layer.p)
    plain: dict[type, nn.Module] = {
        ours.ReLU: nn.ReLU(inplace=True),
        ours.Tanh: nn.Tanh(),
        ours.Flatten: Flatten(),
    }
    return plain[type(layer)]


def create(name: str, num_classes: int, image_size: int, channels: int) -> nn.Module:
    """Return the peer of `models.create(name, ...)` in float32; KeyError if there is none."""
    if name == "dnn":
        sizes = (image_size * image_size * channels, HIDDEN, HIDDEN, HIDDEN)
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, nn.Linear(HIDDEN, num_classes))
    if name in _SEQUENTIAL:
        flat, layers = False, []
        for layer in models.create(name, num_classes, image_size, channels):  # type: ignore[attr-defined]
            layers.append(_layer(layer, flat))
            flat = flat or isinstance(layer, ours.Flatten)
        return nn.Sequential(*layers)
    return ResNet(_DEPTHS[name], num_classes, channels)


def load(net: nn.Module, state: Mapping[str, np.ndarray]) -> None:
    """Give a peer the weights of our model (its `state_dict()`), so that both start alike."""
    words = {"gamma": "weight", "beta": "bias"}
    own = net.state_dict()
    for name, array in state.items():
        owner, _, last = name.rpartition(".")
        if last == "updates":  # ours counts them; PyTorch's fresh statistics do not depend on a count
            continue
        values = torch.from_numpy(np.array(array, np.float32))
        own[f"{owner}.{words.get(last, last)}"] = values.permute(0, 3, 1, 2) if values.ndim == 4 else values
    net.load_state_dict(own)


class Step:
    """A training step of a peer on one batch: forward, backward, SGD with momentum.

    precision: "fp32", "bf16", "fp16" (weights and all), "amp" (FP32 weights, autocast to FP16, a gradient
    scaler) or "compiled" (FP16 weights, torch.compile: mode "max-autotune" on a GPU; on a processor, where it
    is for tests, only traced). x: (N, H, W, C), y: (N,), moved to `device` once.
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
    ) -> None:
        dtype = DTYPES[precision]
        self._gpu = device.startswith("cuda")
        net = net.to(device, dtype).to(memory_format=torch.channels_last).train()
        kernels = [p for p in net.parameters() if p.ndim == 4 and isinstance(net, ResNet)]
        decayed = {id(p) for p in kernels}
        groups: list[dict[str, Any]] = [{"params": [p for p in net.parameters() if id(p) not in decayed]}]
        if kernels:
            groups.append({"params": kernels, "weight_decay": KERNEL_DECAY})
        self._optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=self._gpu)
        images = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        images = images.to(device, torch.float32 if precision == "amp" else dtype)
        self._x = images.contiguous(memory_format=torch.channels_last)
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


def use_threads(count: int) -> None:
    """Set the number of threads that torch computes with."""
    torch.set_num_threads(count)
