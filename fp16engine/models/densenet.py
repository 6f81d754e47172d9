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


class DenseLayer(Module):
    """A norm first, `grow`, and the result joined to the input: (N, H, W, C) -> (N, H, W, C + growth).

    `DenseNet` leaves the join to the norm that follows, which forms it on the way: with `apart` a layer
    returns what is to be joined as a pair, and takes such a pair as x and `joined`.
    """

    def entry(self) -> BatchNorm2d:
        """Return the norm that comes first."""
        raise NotImplementedError

    def grow(self, y: Tensor) -> Tensor:
        """Return the new channels (N, H, W, growth) from the normalised input."""
        raise NotImplementedError

    def forward(
        self, x: Tensor, joined: Tensor | None = None, apart: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        norm = self.entry()
        x, y = (x, norm(x)) if joined is None else norm(x, joined=joined)
        new = self.grow(y)
        return (x, new) if apart else F.cat([x, new], axis=3)


class Layer(DenseLayer):
    """Norm, ReLU, 1x1 convolution, norm, ReLU, 3x3 convolution, joined to its input."""

    def __init__(self, channels: int, bottleneck: int = BOTTLENECK, growth: int = GROWTH) -> None:
        super().__init__()
        self.norm1 = BatchNorm2d(channels, eps=EPS, activation="relu")
        self.conv1 = Conv2d(channels, bottleneck, 1, bias=False)
        self.norm2 = BatchNorm2d(bottleneck, eps=EPS, activation="relu")
        self.conv2 = Conv2d(bottleneck, growth, 3, bias=False)

    def entry(self) -> BatchNorm2d:
        return self.norm1

    def grow(self, y: Tensor) -> Tensor:
        return self.conv2(self.norm2(self.conv1(y)))


class Transition(Sequential):
    """Norm, ReLU, 1x1 convolution, 2x2 average pool: (N, H, W, C) -> (N, H / 2, W / 2, C / 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            BatchNorm2d(channels, eps=EPS, activation="relu"),
            Conv2d(channels, channels // 2, 1, bias=False),
            AvgPool2d(2),
        )

    def forward(self, x: Tensor, joined: Tensor | None = None) -> Tensor:
        if joined is None:
            return super().forward(x)
        norm, *others = self.layers
        _, x = norm(x, joined=joined)
        for layer in others:
            x = layer(x)
        return x


class DenseNet(Sequential):
    """Layers and whatever is between them: (N, H, W, C) -> (N, num_classes)."""

    def forward(self, x: Tensor) -> Tensor:
        joined = None
        for layer in self.layers:
            if isinstance(layer, DenseLayer):
                x, joined = layer(x, joined, apart=True)
                continue
            if joined is None:
                x = layer(x)
            elif isinstance(layer, Transition):
                x = layer(x, joined)
            else:
                _, x = layer(x, joined=joined)
            joined = None
        return x


def _densenet(
    name: str, layers: tuple[int, ...], num_classes: int, image_size: tuple[int, int], channels: int
) -> DenseNet:
    at_least(name, image_size, SMALLEST)
    modules: list[Module] = [
        Conv2d(channels, STEM, 7, stride=2, padding=3, bias=False),
        BatchNorm2d(STEM, eps=EPS, activation="relu"),
        MaxPool2d(3, 2, padding=1),
    ]
    width = STEM
    for block, count in enumerate(layers):
        if block > 0:
            modules.append(Transition(width))
            width //= 2
        modules += [Layer(width + i * GROWTH) for i in range(count)]
        width += count * GROWTH
    modules += [
        BatchNorm2d(width, eps=EPS, activation="relu"),
        GlobalAvgPool2d(),
        Linear(width, num_classes),
    ]
    return DenseNet(*modules)


class PlainLayer(DenseLayer):
    """Norm, ReLU, 3x3 convolution, joined to its input: the layer of the DenseNets for 32x32 images."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels, eps=EPS, activation="relu")
        self.conv = Conv2d(channels, growth, 3, bias=False, weight_decay=KERNEL_DECAY)

    def entry(self) -> BatchNorm2d:
        return self.norm

    def grow(self, y: Tensor) -> Tensor:
        return self.conv(y)


def densenet40(num_classes: int, image_size: tuple[int, int], channels: int) -> DenseNet:
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
    return DenseNet(*modules)


def densenet121(num_classes: int, image_size: tuple[int, int], channels: int) -> DenseNet:
    """Return blocks of 6, 12, 24, 16 layers: (N, H, W, C) -> (N, num_classes), H and W at least 29."""
    return _densenet("densenet121", (6, 12, 24, 16), num_classes, image_size, channels)


def densenet169(num_classes: int, image_size: tuple[int, int], channels: int) -> DenseNet:
    """Return blocks of 6, 12, 32, 32 layers: (N, H, W, C) -> (N, num_classes), H and W at least 29."""
    return _densenet("densenet169", (6, 12, 32, 32), num_classes, image_size, channels)
