"""The layers of `fp16engine.nn` in PyTorch, with our names and weights. Importable only where torch is.

Images are (N, C, H, W) and kernels (K, C / groups, kh, kw), in either of PyTorch's memory layouts. ReLU is in
place, as PyTorch runs it best.
"""

from __future__ import annotations

from functools import partial, singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import nn as ours
from ..tensor import Tensor as OurTensor
from ..validate import pair

_ACTIVATIONS = {
    None: lambda x: x,
    "relu": partial(F.relu, inplace=True),
    "relu6": partial(F.relu6, inplace=True),
    "gelu": F.gelu,
    "tanh": torch.tanh,
}


@singledispatch
def peer(module: Any) -> nn.Module:
    """Return PyTorch's version of one of our modules in float32, with its weights."""
    raise TypeError(f"module must be of a class that has a peer in PyTorch, got {type(module).__name__}")


class Peer(nn.Module):
    """Has what our module has, under the same names: parameters, buffers, modules, plain settings.

    A parameter keeps its own L2 factor as `weight_decay`.
    """

    def __init__(self, module: ours.Module) -> None:
        super().__init__()
        for name, value in vars(module).items():
            if isinstance(value, ours.Parameter):
                parameter: Any = nn.Parameter(_tensor(value))
                parameter.weight_decay = value.weight_decay
                setattr(self, name, parameter)
            elif isinstance(value, OurTensor):
                self.register_buffer(name, _tensor(value))
            elif isinstance(value, ours.Module):
                setattr(self, name, peer(value))
            elif isinstance(value, list):
                setattr(self, name, nn.ModuleList(map(peer, value)))
            else:
                setattr(self, name, value)


def _tensor(value: OurTensor) -> Tensor:
    """Return a copy; kernels (K, kh, kw, C / groups) in PyTorch's order."""
    copied = torch.from_numpy(np.array(value.numpy()))
    return copied.permute(0, 3, 1, 2) if copied.ndim == 4 else copied


@peer.register(ours.Sequential)
def _sequential(module: ours.Sequential) -> nn.Module:
    return nn.Sequential(*map(peer, module.layers))


@peer.register(ours.Linear)
class Linear(Peer):
    """(..., in) -> (..., out)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@peer.register(ours.Conv2d)
class Conv2d(Peer):
    """(N, C, H, W) -> (N, K, OH, OW)."""

    def forward(self, x: Tensor) -> Tensor:
        x, padding = _padded(x, self.weight.shape[2:], self.stride, self.padding, 0.0)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


def _padded(
    x: Tensor, size: tuple[int, ...], stride: tuple[int, int], padding: Any, value: float
) -> tuple[Tensor, tuple[int, int]]:
    """Return x and the padding that its operation is to add on both sides: what is odd, x has already."""
    if padding != "same":
        return x, pair("padding", padding, 0)
    missing = [
        max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(x.shape[2:], size, stride, strict=True)
    ]
    if any(whole % 2 for whole in missing):
        (top, left), (bottom, right) = zip(
            *((whole // 2, whole - whole // 2) for whole in missing), strict=True
        )
        return F.pad(x, (left, right, top, bottom), value=value), (0, 0)
    return x, (missing[0] // 2, missing[1] // 2)


@peer.register(ours.SeparableConv2d)
class SeparableConv2d(Peer):
    """(N, C, H, W) -> (N, K, OH, OW)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


@peer.register(ours.MaxPool2d)
class MaxPool2d(Peer):
    """(N, C, H, W) -> (N, C, OH, OW)."""

    def forward(self, x: Tensor) -> Tensor:
        return max_pool2d(x, self.size, self.stride, self.padding)


def max_pool2d(x: Tensor, size: Any, stride: Any, padding: Any) -> Tensor:
    """Return what `functional.max_pool2d` does: padding is never chosen."""
    window = pair("size", size, 1)
    steps = window if stride is None else pair("stride", stride, 1)
    x, pads = _padded(x, window, steps, padding, float("-inf"))
    return F.max_pool2d(x, window, steps, pads)


@peer.register(ours.AvgPool2d)
class AvgPool2d(Peer):
    """(N, C, H, W) -> (N, C, OH, OW), without padding."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.padding == 0
        return F.avg_pool2d(x, self.size, self.stride)


@peer.register(ours.GlobalAvgPool2d)
class GlobalAvgPool2d(Peer):
    """(N, C, H, W) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


@peer.register(ours.BatchNorm2d)
class BatchNorm2d(Peer):
    """(N, C, H, W) or (N, C). The running averages move by `1 - momentum`; ours faster in the first steps."""

    def forward(self, x: Tensor, residual: Tensor | None = None, addend: Tensor | None = None) -> Any:
        x = x if addend is None else x + addend
        running, step = (self.running_mean, self.running_var), 1 - self.momentum
        y = F.batch_norm(x, *running, self.gamma, self.beta, self.training, step, self.eps)
        y = _ACTIVATIONS[self.activation](y if residual is None else y.add_(residual))
        return y if addend is None else (x, y)


@peer.register(ours.LayerNorm)
class LayerNorm(Peer):
    """(..., C) -> (..., C)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta, self.eps)


@peer.register(ours.Flatten)
class Flatten(Peer):
    """(N, C, H, W) -> (N, H * W * C), our order of the features; (N, ...) -> (N, product)."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)


@peer.register(ours.Dropout)
class Dropout(Peer):
    """Any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


@peer.register(ours.PatchEmbedding)
class PatchEmbedding(Peer):
    """(N, C, H, W) -> (N, S, dim): a convolution that strides over the patches, as ViTs are written."""

    def forward(self, x: Tensor) -> Tensor:
        dim, side = self.positions.shape[1], self.patch
        kernels = self.projection.weight.view(dim, side, side, -1).permute(0, 3, 1, 2)
        y = F.conv2d(x, kernels, self.projection.bias, side)
        return y.flatten(2).transpose(1, 2) + self.positions


@peer.register(ours.MultiHeadAttention)
class MultiHeadAttention(Peer):
    """(B, S, dim) -> (B, S, dim): self-attention by PyTorch's own kernel."""

    def forward(self, x: Tensor) -> Tensor:
        heads = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        return self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, S, heads * D) -> (B, heads, S, D)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


for _own, _theirs in (
    (ours.Identity, nn.Identity),
    (ours.ReLU, partial(nn.ReLU, inplace=True)),
    (ours.ReLU6, partial(nn.ReLU6, inplace=True)),
    (ours.GELU, nn.GELU),
    (ours.Tanh, nn.Tanh),
):
    peer.register(_own, lambda _, make=_theirs: make())
