"""VGG for small images (Simonyan and Zisserman, 1409.1556) with batch norms, as in the study (2305.10947)."""

from __future__ import annotations

from ..nn import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential
from ._size import at_least

WIDTHS = (64, 128, 256, 512, 512)
HIDDEN = 4096

# Five pools halve the image five times.
SMALLEST = 32


def _vgg(
    name: str, convolutions: tuple[int, ...], num_classes: int, image_size: tuple[int, int], channels: int
) -> Sequential:
    at_least(name, image_size, SMALLEST)
    layers: list[Module] = []
    for stage, (width, count) in enumerate(zip(WIDTHS, convolutions, strict=True)):
        for _ in range(count):
            layers += [Conv2d(channels, width, 3), ReLU()]
            channels = width
        layers.append(MaxPool2d(2))
        if stage < len(WIDTHS) - 1:
            layers.append(BatchNorm2d(width))
    inputs = (image_size[0] // SMALLEST) * (image_size[1] // SMALLEST) * channels
    return Sequential(
        *layers,
        Flatten(),
        BatchNorm2d(inputs),
        Linear(inputs, HIDDEN),
        ReLU(),
        Linear(HIDDEN, HIDDEN),
        ReLU(),
        Linear(HIDDEN, num_classes),
    )


def vgg16(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return 13 convolutions and 3 dense layers: (N, H, W, C) -> (N, num_classes), H and W at least 32."""
    return _vgg("vgg16", (2, 2, 3, 3, 3), num_classes, image_size, channels)


def vgg19(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return 16 convolutions and 3 dense layers: (N, H, W, C) -> (N, num_classes), H and W at least 32."""
    return _vgg("vgg19", (2, 2, 4, 4, 4), num_classes, image_size, channels)
