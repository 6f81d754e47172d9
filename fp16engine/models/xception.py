"""Xception (Chollet, 1610.02357) as Keras defines it; the study runs it on 32x32 images."""

from __future__ import annotations

from .. import functional as F
from ..nn import BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear, Module, ReLU, SeparableConv2d, Sequential
from ..tensor import Tensor
from ._size import at_least

MIDDLE = 728
MIDDLE_UNITS = 8

# The stem's two convolutions without padding leave no pixel of a smaller image.
SMALLEST = 7


class Unit(Module):
    """Separable 3x3 convolutions of `widths`, a norm after each, a ReLU between them, plus a shortcut.

    `rectified` puts a ReLU before the first, too. `shrink` ends with a 3x3 maximum pool of stride 2, and the
    shortcut is a 1x1 convolution of stride 2 with a norm.
    x: (N, H, W, C) -> (N, H, W, widths[-1]), half the height and width (rounded up) with `shrink`.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], shrink: bool, rectified: bool = True) -> None:
        super().__init__()
        self.rectified = rectified
        self.activate = ReLU()
        self.shortcut: Sequential | None = None
        if shrink:
            self.shortcut = Sequential(
                Conv2d(channels, widths[-1], 1, stride=2, bias=False), BatchNorm2d(widths[-1])
            )
        self.convolutions: list[SeparableConv2d] = []
        self.norms: list[BatchNorm2d] = []
        for i, width in enumerate(widths):
            last = i == len(widths) - 1
            self.convolutions.append(SeparableConv2d(channels, width, 3, bias=False))
            self.norms.append(BatchNorm2d(width, activation=None if last else "relu"))
            channels = width

    def forward(self, x: Tensor) -> Tensor:
        y = self.activate(x) if self.rectified else x
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            # the last norm, without an activation, takes the shortcut in
            ends = self.shortcut is None and norm is self.norms[-1]
            y = norm(convolution(y), x) if ends else norm(convolution(y))
        if self.shortcut is None:
            return y
        return F.max_pool2d(y, 3, 2, padding="same") + self.shortcut(x)


def _separable(channels: int, width: int) -> tuple[Module, Module]:
    return SeparableConv2d(channels, width, 3, bias=False), BatchNorm2d(width, activation="relu")


def xception(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return entry, middle and exit flow: (N, H, W, C) -> (N, num_classes), H and W at least 7."""
    at_least("xception", image_size, SMALLEST)
    return Sequential(
        Conv2d(channels, 32, 3, stride=2, padding=0, bias=False),
        BatchNorm2d(32, activation="relu"),
        Conv2d(32, 64, 3, padding=0, bias=False),
        BatchNorm2d(64, activation="relu"),
        Unit(64, (128, 128), shrink=True, rectified=False),
        Unit(128, (256, 256), shrink=True),
        Unit(256, (MIDDLE, MIDDLE), shrink=True),
        *(Unit(MIDDLE, (MIDDLE, MIDDLE, MIDDLE), shrink=False) for _ in range(MIDDLE_UNITS)),
        Unit(MIDDLE, (MIDDLE, 1024), shrink=True),
        *_separable(1024, 1536),
        *_separable(1536, 2048),
        GlobalAvgPool2d(),
        Linear(2048, num_classes),
    )
