"""The study's AlexNet for CIFAR-10 (arXiv 2305.10947): five 3x3 convolutions, three valid max pools."""

from __future__ import annotations

from ..nn import Conv2d, Dropout, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential, Tanh
from ._size import at_least

# Three valid pools after a stride of 2 leave no pixel of a smaller image.
SMALLEST = 27


def _features(channels: int) -> list[Module]:
    return [
        Conv2d(channels, 64, 3, stride=2),
        ReLU(),
        MaxPool2d(2, 2),
        Conv2d(64, 96, 3),
        ReLU(),
        MaxPool2d(3, 2),
        Conv2d(96, 256, 3),
        ReLU(),
        Conv2d(256, 256, 3),
        ReLU(),
        Conv2d(256, 512, 3),
        ReLU(),
        MaxPool2d(3, 2),
        Flatten(),
    ]


def _flat_features(name: str, image_size: tuple[int, int]) -> int:
    """Return the number of values after the convolutions."""
    at_least(name, image_size, SMALLEST)
    height, width = ((((n + 1) // 2 // 2 - 3) // 2 + 1 - 3) // 2 + 1 for n in image_size)
    return height * width * 512


def alexnet(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return the convolutions and one classifier: (N, H, W, C) -> (N, num_classes), H and W at least 27.

    The paper's 2.09 M parameters fit this; its published code has `alexnet_4096`'s classifier.
    """
    inputs = _flat_features("alexnet", image_size)
    return Sequential(*_features(channels), Linear(inputs, num_classes))


def alexnet_4096(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return the published code's AlexNet: two tanh layers of 4096 with dropout 0.5 before the classifier."""
    inputs = _flat_features("alexnet-4096", image_size)
    return Sequential(
        *_features(channels),
        Linear(inputs, 4096),
        Tanh(),
        Dropout(0.5),
        Linear(4096, 4096),
        Tanh(),
        Dropout(0.5),
        Linear(4096, num_classes),
    )
