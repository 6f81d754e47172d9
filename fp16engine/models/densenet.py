"""Densely connected networks (Huang et al., 1608.06993) as Keras defines them, ImageNet stem included."""

from __future__ import annotations

from .. import functional as F
from ..nn import AvgPool2d, BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear, MaxPool2d, Module, Sequential
from ..tensor import Tensor
from ._size import at_least

STEM = 64
GROWTH = 32
BOTTLENECK = 4 * GROWTH
EPS = 1.001e-5
KERNEL_DECAY = 1e-4  # of the network for small images, as the paper trains it

# Stem and first pool quarter the image, rounded up; three more pools need 8 pixels.
SMALLEST = 29


class Layer(Module):
    """Norm, ReLU, 1x1 convolution, norm, ReLU, 3x3 convolution, joined to its input.

    x: (N, H, W, C) -> (N, H, W, C + growth).
    """

    def __init__(self, channels: int, bottleneck: int = BOTTLENECK, growth: int = GROWTH) -> None:
        super().__init__()
        self.norm1 = BatchNorm2d(channels, eps=EPS, activation="relu")
        self.conv1 = Conv2d(channels, bottleneck, 1, bias=False)
        self.norm2 = BatchNorm2d(bottleneck, eps=EPS, activation="relu")
        self.conv2 = Conv2d(bottleneck, growth, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.cat([x, self.conv2(self.norm2(self.conv1(self.norm1(x))))], axis=3)


def _transition(channels: int) -> Sequential:
    return Sequential(
        BatchNorm2d(channels, eps=EPS, activation="relu"),
        Conv2d(channels, channels // 2, 1, bias=False),
        AvgPool2d(2),
    )


def _densenet(
    name: str, layers: tuple[int, ...], num_classes: int, image_size: tuple[int, int], channels: int
) -> Sequential:
    at_least(name, image_size, SMALLEST)
    modules: list[Module] = [
        Conv2d(channels, STEM, 7, stride=2, padding=3, bias=False),
        BatchNorm2d(STEM, eps=EPS, activation="relu"),
        MaxPool2d(3, 2, padding=1),
    ]
    width = STEM
    for block, count in enumerate(layers):
        if block > 0:
            modules.append(_transition(width))
            width //= 2
        modules += [Layer(width + i * GROWTH) for i in range(count)]
        width += count * GROWTH
    modules += [
        BatchNorm2d(width, eps=EPS, activation="relu"),
        GlobalAvgPool2d(),
        Linear(width, num_classes),
    ]
    return Sequential(*modules)


class PlainLayer(Module):
    """Norm, ReLU, 3x3 convolution, joined to its input: the layer of the DenseNets for 32x32 images.

    x: (N, H, W, C) -> (N, H, W, C + growth).
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels, eps=EPS, activation="relu")
        self.conv = Conv2d(channels, growth, 3, bias=False, weight_decay=KERNEL_DECAY)

    def forward(self, x: Tensor) -> Tensor:
        return F.cat([x, self.conv(self.norm(x))], axis=3)


def densenet40(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return the basic DenseNet of 40 layers and growth 12 for small images (Huang et al., section 4.2).

    A 3x3 stem of 16 channels, three blocks of 12 layers without bottleneck, 1x1 convolutions that keep the
    channels and 2x2 average pools between them: (N, H, W, C) -> (N, num_classes), H and W at least 4.
    """
    at_least("densenet40", image_size, 4)
    width = 16
    modules: list[Module] = [Conv2d(channels, width, 3, bias=False, weight_decay=KERNEL_DECAY)]
    for block in range(3):
        if block > 0:
            modules += [
                BatchNorm2d(width, eps=EPS, activation="relu"),
                Conv2d(width, width, 1, bias=False, weight_decay=KERNEL_DECAY),
                AvgPool2d(2),
            ]
        modules += [PlainLayer(width + i * 12, 12) for i in range(12)]
        width += 144
    modules += [BatchNorm2d(width, eps=EPS, activation="relu"), GlobalAvgPool2d(), Linear(width, num_classes)]
    return Sequential(*modules)


def densenet121(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return blocks of 6, 12, 24, 16 layers: (N, H, W, C) -> (N, num_classes), H and W at least 29."""
    return _densenet("densenet121", (6, 12, 24, 16), num_classes, image_size, channels)


def densenet169(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return blocks of 6, 12, 32, 32 layers: (N, H, W, C) -> (N, num_classes), H and W at least 29."""
    return _densenet("densenet169", (6, 12, 32, 32), num_classes, image_size, channels)
