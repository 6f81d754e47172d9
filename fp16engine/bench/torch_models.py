"""The networks of `fp16engine.models` in PyTorch, a class for each of ours. Importable only where torch is.

What a class holds is that of ours, under the same names (`torch_layers.Peer`); what it does with it is
written here again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import models
from ..models import densenet, mobilenet, resnet, resnet_basic, vit
from ..models.xception import Unit
from ..nn import Module
from .torch_layers import Peer, max_pool2d, peer


def create(name: str, num_classes: int, image_size: int, channels: int) -> nn.Module:
    """Return the peer of `models.create(name, ...)`, with the same weights, in float32."""
    return peer(models.create(name, num_classes, image_size, channels, seed=0))


@peer.register(resnet.Unit)
class ResNetUnit(Peer):
    """A sum that the next norm forms: (N, C, H, W) and what is to be added to it, or None, to such a pair."""

    def forward(self, x: Tensor, addend: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if addend is None:
            y = self.norm1(x)
        else:
            x, y = self.norm1(x, addend=addend)
        shortcut = y if self.preactivated else x
        if self.stride > 1:  # "same" padding: the window at an odd end is smaller
            shortcut = F.avg_pool2d(shortcut, self.stride, ceil_mode=True, count_include_pad=False)
        if self.before or self.after:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.before, self.after))
        return self.conv2(self.norm2(self.conv1(y))), shortcut


@peer.register(resnet.ResNet)
class ResNet(Peer):
    """(N, C, H, W) -> (N, num_classes)."""

    def forward(self, x: Tensor) -> Tensor:
        x, shortcut = self.stem(x), None
        for unit in self.units:
            x, shortcut = unit(x, shortcut)
        _, y = self.norm(x, addend=shortcut)
        return self.classifier(self.pool(y))


@peer.register(resnet_basic.Block)
class BasicBlock(Peer):
    """(N, C, H, W) -> (N, width, H / stride, W / stride)."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.projection is None else self.projection_norm(self.projection(x))
        return self.norm2(self.conv2(self.norm1(self.conv1(x))), shortcut)


@peer.register(resnet_basic.BasicResNet)
class BasicResNet(Peer):
    """(N, C, H, W) -> (N, num_classes)."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.pool(x))


@peer.register(densenet.Layer)
class DenseLayer(Peer):
    """(N, C, H, W) -> (N, C + growth, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv2(self.norm2(self.conv1(self.norm1(x))))], 1)


@peer.register(densenet.PlainLayer)
class PlainDenseLayer(Peer):
    """(N, C, H, W) -> (N, C + growth, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.norm(x))], 1)


@peer.register(mobilenet.Block)
class InvertedResidual(Peer):
    """(N, C, H, W) -> (N, width, H / stride, W / stride)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.residual else self.layers(x)


@peer.register(vit.Block)
class ViTBlock(Peer):
    """(N, S, dim) -> (N, S, dim)."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout1(self.attention(x)))
        return self.norm2(x + self.dropout2(self.mlp(x)))


@peer.register(Unit)
class XceptionUnit(Peer):
    """(N, C, H, W) -> (N, K, H, W), or half the height and width where it shrinks."""

    def __init__(self, module: Module) -> None:
        super().__init__(module)
        self.activate.inplace = False  # the shortcut takes x as it was

    def forward(self, x: Tensor) -> Tensor:
        y = self.activate(x) if self.rectified else x
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            y = norm(convolution(y))
        if self.shortcut is None:
            return y + x
        return max_pool2d(y, 3, 2, "same") + self.shortcut(x)
