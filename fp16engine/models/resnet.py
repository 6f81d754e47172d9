"""Pre-activation residual networks for small images (He et al., 1603.05027), as in the study (2305.10947)."""

from __future__ import annotations

from .. import functional as F
from ..nn import BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear, Module
from ..tensor import Tensor

WIDTHS = (16, 32, 64)

# The study adds 1e-4 * sum(w^2) per convolution kernel to the loss, whose gradient is 2e-4 * w.
KERNEL_DECAY = 2e-4


class Unit(Module):
    """Norm, ReLU, 3x3 convolution, twice, plus a shortcut: (N, H, W, C) -> (N, H/stride, W/stride, width).

    The sum is left to the norm that follows, which forms it on the way: `forward` takes and returns what is
    to be added as a pair, (x, None) at the start. Where the image shrinks, the shortcut is a 2x2 average pool
    with zero channels on both sides; `preactivated` takes it after the first ReLU, as the first unit of the
    network does.
    """

    def __init__(self, channels: int, width: int, stride: int, preactivated: bool) -> None:
        super().__init__()
        self.stride = stride
        self.preactivated = preactivated
        self.before = (width - channels) // 2
        self.after = width - channels - self.before
        self.norm1 = BatchNorm2d(channels, activation="relu")
        self.conv1 = Conv2d(channels, width, 3, stride, weight_decay=KERNEL_DECAY)
        self.norm2 = BatchNorm2d(width, activation="relu")
        self.conv2 = Conv2d(width, width, 3, weight_decay=KERNEL_DECAY)

    def forward(self, x: Tensor, addend: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if addend is None:
            y = self.norm1(x)
        else:
            x, y = self.norm1(x, addend=addend)
        shortcut = y if self.preactivated else x
        if self.stride > 1:
            shortcut = F.avg_pool2d(shortcut, self.stride, padding="same")
        if self.before or self.after:
            shortcut = F.pad_channels(shortcut, self.before, self.after)
        return self.conv2(self.norm2(self.conv1(y))), shortcut


class ResNet(Module):
    """6n + 2 layers: convolution, three stages of n units of width 16, 32, 64, norm, ReLU, mean, classifier.

    x: (N, H, W, C) -> (N, num_classes), any H and W. Convolutions have biases; their kernels carry an L2
        factor.
    """

    def __init__(self, depth: int, num_classes: int, channels: int) -> None:
        super().__init__()
        units = (depth - 2) // 6
        self.stem = Conv2d(channels, WIDTHS[0], 3, weight_decay=KERNEL_DECAY)
        self.units: list[Unit] = []
        inputs = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            for i in range(units):
                stride = 2 if stage > 0 and i == 0 else 1
                self.units.append(Unit(inputs, width, stride, preactivated=stage == 0 and i == 0))
                inputs = width
        self.norm = BatchNorm2d(inputs, activation="relu")
        self.pool = GlobalAvgPool2d()
        self.classifier = Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x, shortcut = self.stem(x), None
        for unit in self.units:
            x, shortcut = unit(x, shortcut)
        _, y = self.norm(x, addend=shortcut)
        return self.classifier(self.pool(y))


def resnet20(num_classes: int, image_size: tuple[int, int], channels: int) -> ResNet:
    """Return the network with 3 units per stage."""
    return ResNet(20, num_classes, channels)


def resnet32(num_classes: int, image_size: tuple[int, int], channels: int) -> ResNet:
    """Return the network with 5 units per stage."""
    return ResNet(32, num_classes, channels)


def resnet44(num_classes: int, image_size: tuple[int, int], channels: int) -> ResNet:
    """Return the network with 7 units per stage."""
    return ResNet(44, num_classes, channels)


def resnet56(num_classes: int, image_size: tuple[int, int], channels: int) -> ResNet:
    """Return the network with 9 units per stage."""
    return ResNet(56, num_classes, channels)


def resnet110(num_classes: int, image_size: tuple[int, int], channels: int) -> ResNet:
    """Return the network with 18 units per stage."""
    return ResNet(110, num_classes, channels)


def resnet156(num_classes: int, image_size: tuple[int, int], channels: int) -> ResNet:
    """Return the network with 25 units per stage: 152 layers, since 156 is no 6n + 2."""
    return ResNet(152, num_classes, channels)
