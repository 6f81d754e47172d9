"""The same networks in PyTorch, to measure a training step beside ours. Importable only where torch is.

Same layers, same padding, same shortcuts, same optimizer as `fp16engine.models`, written the way PyTorch
runs them best on a CPU: channels_last memory, in-place ReLU, one SGD with momentum.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.dnn import HIDDEN
from ..models.resnet import KERNEL_DECAY, WIDTHS

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
VERSION = torch.__version__
_DEPTHS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}


def names() -> list[str]:
    """Return the networks that have a peer here."""
    return ["dnn", *_DEPTHS]


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


def create(name: str, num_classes: int, image_size: int, channels: int) -> nn.Module:
    """Return the peer of `models.create(name, ...)` in float32; KeyError if there is none."""
    if name == "dnn":
        sizes = (image_size * image_size * channels, HIDDEN, HIDDEN, HIDDEN)
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, nn.Linear(HIDDEN, num_classes))
    return ResNet(_DEPTHS[name], num_classes, channels)


def load(net: nn.Module, state: Mapping[str, np.ndarray]) -> None:
    """Give a peer the weights of our model (its `state_dict()`), so that both start alike."""
    words = {"gamma": "weight", "beta": "bias"}
    own = net.state_dict()
    for name, array in state.items():
        owner, _, last = name.rpartition(".")
        values = torch.from_numpy(np.array(array, np.float32))
        own[f"{owner}.{words.get(last, last)}"] = values.permute(0, 3, 1, 2) if values.ndim == 4 else values
    net.load_state_dict(own)


class Step:
    """A training step of a peer on one batch: forward, backward, SGD with momentum."""

    def __init__(
        self, net: nn.Module, precision: str, x: np.ndarray, y: np.ndarray, lr: float, momentum: float
    ) -> None:
        dtype = DTYPES[precision]
        self._net = net.to(dtype).to(memory_format=torch.channels_last).train()
        kernels = [p for p in net.parameters() if p.ndim == 4]
        others = [p for p in net.parameters() if p.ndim != 4]
        groups: list[dict[str, Any]] = [{"params": others}]
        if kernels:
            groups.append({"params": kernels, "weight_decay": KERNEL_DECAY})
        self._optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum)
        images = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).to(dtype)
        self._x = images.contiguous(memory_format=torch.channels_last)
        self._y = torch.from_numpy(y)

    def __call__(self) -> float:
        """Take the step and return the loss."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self._net(self._x), self._y)
        loss.backward()
        self._optimizer.step()
        return float(loss.item())


def use_threads(count: int) -> None:
    """Set the number of threads that torch computes with."""
    torch.set_num_threads(count)
