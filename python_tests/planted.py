"""Small networks and steps with a fault planted in one layer."""

from __future__ import annotations

from typing import Any

import numpy as np

import fp16engine as fe
from fp16engine import nn

FEATURES, HIDDEN, CLASSES, BATCH = 16, 24, 5, 32


class Times(nn.Module):
    """Multiply by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Any) -> Any:
        return x * self.factor


class OverItself(nn.Module):
    """x / (x + eps)."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Any) -> Any:
        return x / (x + self.eps)


class Wide(nn.Module):
    """A detour through float32."""

    def forward(self, x: Any) -> Any:
        return (x.astype("float32") * 2.0).astype("float16")


class Same(nn.Module):
    def forward(self, x: Any) -> Any:
        return x


class Net(nn.Module):
    """Linear, ReLU, a layer to be planted, classifier."""

    def __init__(self, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(FEATURES, HIDDEN)
        self.relu = nn.ReLU()
        self.middle = middle or Same()
        self.classifier = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Any) -> Any:
        return self.classifier(self.middle(self.relu(self.hidden(self.flatten(x)))))


def net(middle: nn.Module | None = None, seed: int = 0) -> Net:
    """The network with a layer planted in its middle; the same weights for the same seed."""
    fe.manual_seed(seed)
    return Net(middle)


def batch(scale: float = 1.0, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 4, 4, 1) and labels (N,)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((BATCH, 4, 4, 1)) * scale + shift
    return x.astype(np.float16), rng.integers(0, CLASSES, BATCH)
