"""The fully connected network of the study's MNIST runs; its text leaves the sizes open."""

from __future__ import annotations

from ..nn import Flatten, Linear, ReLU, Sequential

HIDDEN = 512


def dnn(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return flatten, three hidden ReLU layers of 512, classifier: (N, H, W, C) -> (N, num_classes)."""
    inputs = image_size[0] * image_size[1] * channels
    return Sequential(
        Flatten(),
        Linear(inputs, HIDDEN),
        ReLU(),
        Linear(HIDDEN, HIDDEN),
        ReLU(),
        Linear(HIDDEN, HIDDEN),
        ReLU(),
        Linear(HIDDEN, num_classes),
    )
