"""Residual networks of basic blocks (He et al., 1512.03385), widths 64 to 512, stem for small images."""

from __future__ import annotations

from ..nn import BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear, Module
from ..tensor import Tensor
from .resnet import KERNEL_DECAY

WIDTHS = (64, 128, 256, 512)


def _conv(channels: int, width: int, size: int, stride: int = 1) -> Conv2d:
    return Conv2d(channels, width, size, stride, bias=False, weight_decay=KERNEL_DECAY)


class Block(Module):
    """Convolution 3x3, norm, ReLU, convolution 3x3, norm, plus a shortcut, ReLU.

    x: (N, H, W, C) -> (N, H/stride, W/stride, width). Where the shape changes, the shortcut is a 1x1
        convolution and a norm.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, width, 3, stride)
        self.norm1 = BatchNorm2d(width, activation="relu")
        self.conv2 = _conv(width, width, 3)
        self.norm2 = BatchNorm2d(width, activation="relu")
        self.projection: Conv2d | None = None
        if stride > 1 or channels != width:
            self.projection = _conv(channels, width, 1, stride)
            self.projection_norm = BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.projection is None else self.projection_norm(self.projection(x))
        return self.norm2(self.conv2(self.norm1(self.conv1(x))), shortcut)


class BasicResNet(Module):
    """3x3 stem without a pool, four stages of blocks, mean, classifier: (N, H, W, C) -> (N, num_classes).

    Any H and W. Convolutions have no biases; their kernels carry the L2 factor of all the study's ResNets.
    The widths of the stages are `first_width` times 1, 2, 4, 8.
    """

    def __init__(
        self, blocks: tuple[int, ...], num_classes: int, channels: int, first_width: int = WIDTHS[0]
    ) -> None:
        super().__init__()
        widths = [first_width * width // WIDTHS[0] for width in WIDTHS]
        self.stem = _conv(channels, first_width, 3)
        self.norm = BatchNorm2d(first_width, activation="relu")
        self.blocks: list[Block] = []
        inputs = first_width
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for i in range(count):
                self.blocks.append(Block(inputs, width, stride=2 if stage > 0 and i == 0 else 1))
                inputs = width
        self.pool = GlobalAvgPool2d()
        self.classifier = Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.pool(x))


BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def resnet18(num_classes: int, image_size: tuple[int, int], channels: int) -> BasicResNet:
    """Return the network with 2, 2, 2, 2 blocks."""
    return BasicResNet(BLOCKS[18], num_classes, channels)


def resnet34(num_classes: int, image_size: tuple[int, int], channels: int) -> BasicResNet:
    """Return the network with 3, 4, 6, 3 blocks."""
    return BasicResNet(BLOCKS[34], num_classes, channels)
