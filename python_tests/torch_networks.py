"""Small networks of PyTorch's, each with operators that `from_torch` converts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as torch_f


class Residual(nn.Module):
    """Convolutions of every kind, norms, sums, concatenation, chunks of channels, a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 5, stride=2, padding=2)
        self.norm = nn.BatchNorm2d(16, eps=1e-3, momentum=0.3)
        self.depthwise = nn.Conv2d(16, 16, 3, padding="same", groups=16, bias=False)
        self.grouped = nn.Conv2d(16, 24, (1, 3), padding=(0, 1), groups=4)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 24, 1), nn.Sigmoid())
        self.head = nn.Linear(40 * 4, 5)

    def forward(self, x: Any) -> Any:
        x = torch_f.relu(self.norm(self.stem(x)), inplace=True)
        y = torch_f.silu(x + self.depthwise(x))
        z = self.grouped(y)
        z = z * self.gate(z)
        first, second = torch.chunk(z, 2, dim=1)
        x = torch.cat([second, x, first * 0.5 - second], 1)
        x = torch_f.dropout(torch_f.max_pool2d(x, 3, 2, 1), 0.0, training=self.training)
        x = torch_f.adaptive_avg_pool2d(x, (2, 2))
        return self.head(x.view(x.size(0), -1))


class Pools(nn.Module):
    """Pools whose padding counts and does not, windows of unequal size, flattening in PyTorch's order."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AvgPool2d(3, 2, 1), nn.Conv2d(3, 6, 1), nn.LeakyReLU(0.1),
            nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.Hardswish(),
            nn.AdaptiveAvgPool2d((3, 5)),
            nn.GELU(approximate="tanh"), nn.Flatten(),
            nn.Linear(90, 4, bias=False), nn.BatchNorm1d(4), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.layers(x)


class Transformer(nn.Module):
    """Patches, a class token, both kinds of attention, a norm as a function, a mean, a shared weight."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.second = nn.MultiheadAttention(16, 2, bias=False)
        self.norm = nn.LayerNorm(16)
        self.scale, self.shift = nn.Parameter(torch.rand(16) + 0.5), nn.Parameter(torch.randn(16))
        self.joined = nn.Linear(16, 48, bias=False)
        self.once, self.again = nn.Linear(16, 16), nn.Linear(16, 16)
        self.again.weight = self.once.weight
        self.head = nn.Linear(16, 6)

    def forward(self, x: Any) -> Any:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        y = x.permute(1, 0, 2)
        x = x + self.second(y, y, y)[0].permute(1, 0, 2)
        n, s, c = x.shape
        y = torch_f.layer_norm(x, (c,), self.scale, self.shift, 1e-6)
        q, k, v = self.joined(y).reshape(n, s, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = torch_f.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.again(torch_f.gelu(self.once(y.transpose(1, 2).reshape(n, s, c))))
        weights = torch.softmax(x @ x.transpose(-2, -1) / c, dim=-1)
        return self.head((weights @ x)[:, 1:].mean(1) - x[:, 0])


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "pools": Pools,
    "transformer": Transformer,
}


def make(name: str, seed: int = 0) -> nn.Module:
    """Return a network with weights and running statistics that are not those of a new one."""
    torch.manual_seed(seed)
    module = NETWORKS[name]().train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.randn(8, 3, 16, 16) * 2 + 1)
    return module
