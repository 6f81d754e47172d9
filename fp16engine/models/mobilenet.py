"""MobileNetV2 (Sandler et al., 1801.04381) as Keras defines it, width factor 1, ImageNet stem."""

from __future__ import annotations

from ..nn import BatchNorm2d, Conv2d, GlobalAvgPool2d, Identity, Linear, Module, Sequential
from ..tensor import Tensor

STEM = 32
HEAD = 1280
# (expansion, width, blocks, stride of the first block)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


# Norms keep the study's momentum 0.99. With Keras' 0.999 here, running statistics held in binary16 would
# stand still a quarter to a half of their size away from the truth: a step would be less than half an ulp.
def _conv(channels: int, width: int, size: int, stride: int = 1, groups: int = 1) -> tuple[Module, ...]:
    return (
        Conv2d(channels, width, size, stride, groups=groups, bias=False),
        BatchNorm2d(width, activation="relu6"),
        Identity(),  # older checkpoints count a ReLU6 here, and so the names of what follows
    )


class Block(Module):
    """Inverted residual: 1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection.

    x: (N, H, W, C) -> (N, H/stride, W/stride, width), sizes rounded up; the input is added where the shape
        stays. With expansion 1 the first convolution is left out.
    """

    def __init__(self, channels: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.residual = stride == 1 and channels == width
        self.layers = Sequential(
            *(_conv(channels, inner, 1) if expansion > 1 else ()),
            *_conv(inner, inner, 3, stride, groups=inner),
            Conv2d(inner, width, 1, bias=False),
            BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        if not self.residual:
            return self.layers(x)
        y = x
        for layer in self.layers.layers[:-1]:
            y = layer(y)
        return self.layers[-1](y, x)


def mobilenetv2(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return stem of stride 2, 17 blocks, mean, classifier: (N, H, W, C) -> (N, num_classes), any H and W."""
    layers: list[Module] = [*_conv(channels, STEM, 3, stride=2)]
    inputs = STEM
    for expansion, width, count, stride in STAGES:
        for i in range(count):
            layers.append(Block(inputs, width, expansion, stride if i == 0 else 1))
            inputs = width
    return Sequential(*layers, *_conv(inputs, HEAD, 1), GlobalAvgPool2d(), Linear(HEAD, num_classes))
