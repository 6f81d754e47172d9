"""Modules of PyTorch with a fault planted in one of them. Imported only where torch is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Times(nn.Module):
    """Multiply by a number; what comes back is multiplied by another."""

    def __init__(self, forward: float = 1.0, backward: float = 1.0) -> None:
        super().__init__()
        self.factors = forward, backward

    def forward(self, x: Any) -> Any:
        ahead, back = self.factors
        return x * back + (x * (ahead - back)).detach()


class Residual(nn.Module):
    """Norm, in-place activation, and a sum outside of any layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.last = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Any) -> Any:
        y = self.last(self.act(self.norm(self.conv(x))))
        y += x
        return nn.functional.relu(y, inplace=True)


class Twice(nn.Module):
    """Two paths from one product."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, dtype=torch.float16))

    def forward(self, x: Any) -> Any:
        y = x * self.weight
        return (y * 1.0).sum() + (y * 1.0).sum()


class Op(nn.Module):
    """One function of the input, and a weight that needs a gradient."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(4, dtype=torch.float16))

    def forward(self, x: Any) -> Any:
        return self.function(x * self.weight)


class Sum(nn.Module):
    """Two arguments by name."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.float16))

    def forward(self, a: Any, b: Any) -> Any:
        return {"y": (a + b) * self.scale}


def layers(*planted: tuple[int, Any], width: int = 8, depth: int = 4) -> Any:
    """Linear layers with Tanh between them, half; (i, module) of `planted` comes in front of linear i."""
    torch.manual_seed(0)
    made: dict[str, Any] = {}
    for i in range(depth):
        for index, module in planted:
            if index == i:
                made[f"planted{i}"] = module
        made[f"linear{i}"] = nn.Linear(width, width)
        if i < depth - 1:
            made[f"tanh{i}"] = nn.Tanh()
    model = nn.Sequential()
    for name, module in made.items():
        model.add_module(name, module)
    return model.half()


def conv_net() -> Any:
    """A small network with all that makes hooks difficult, half."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), Residual(8), nn.Dropout(0.5), Residual(8), nn.Flatten(), nn.Linear(8 * 36, 5)
    ).half()


class Chain(nn.Module):
    """Products, an activation, a norm and operators between them, which a compiler fuses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 8)

    def forward(self, x: Any) -> Any:
        h = self.first(x)
        h = nn.functional.gelu(h) * 1.1 + h * 0.3
        h = self.norm(h) + x
        return self.last(h * h - h)


class Noisy(nn.Linear):
    """A layer with weights that draws random numbers and counts its calls."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return super().forward(nn.functional.dropout(x, 0.5))


class Recurrent(nn.Module):
    """Layers that are called with tuples and by name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell, self.noisy, self.norm = nn.LSTM(width, width), Noisy(width), nn.BatchNorm1d(width)

    def forward(self, x: Any) -> Any:
        state = torch.zeros(1, len(x), x.shape[1], dtype=x.dtype)
        y, _ = self.cell(x[None], (state, state))
        return self.norm(input=self.noisy(y[0]))


def activation_and_norm() -> Any:
    """Half layers in evaluation whose activation is computed inside of the norm's loops, when compiled."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 8)).half().eval()


def chain() -> Any:
    """A half `Chain` in evaluation."""
    torch.manual_seed(0)
    return Chain().half().eval()
