"""Convolution and pooling layers."""

from __future__ import annotations

from collections.abc import Sequence

from .. import functional as F
from ..ops import _check
from ..tensor import Tensor
from . import init
from .module import Module

Size = int | Sequence[int]


class Conv2d(Module):
    """Convolution over images: (N, H, W, in_channels) -> (N, OH, OW, out_channels), see `functional.conv2d`.

    weight: (out_channels, kh, kw, in_channels/groups), Glorot-uniform with fans kh*kw*in_channels/groups and
    kh*kw*out_channels; bias: (out_channels,), zero. `weight_decay` is the kernel's own L2 factor.

    >>> import fp16engine as fe
    >>> x = fe.tensor([[[[0.0]] * 5] * 5], device="reference")
    >>> fe.nn.Conv2d(1, 8, 3, stride=2).to("reference")(x).shape
    (1, 3, 3, 8)
    """

    dot_product = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: Size,
        stride: Size = 1,
        padding: Size | str = "same",
        groups: int = 1,
        bias: bool = True,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__()
        init.positive("Conv2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: groups is {groups}, a divisor of {in_channels} input "
                f"and {out_channels} output channels is wanted"
            )
        kh, kw = _check.pair("Conv2d", "size", size, 1)
        self.stride = _check.pair("Conv2d", "stride", stride, 1)
        self.padding = padding
        self.groups = groups
        inputs = in_channels // groups
        self.weight = init.glorot_uniform(
            (out_channels, kh, kw, inputs), kh * kw * inputs, kh * kw * out_channels, weight_decay
        )
        self.bias = init.constant((out_channels,), 0.0) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.groups)

    def extra_repr(self) -> str:
        out, kh, kw, inputs = self.weight.shape
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        bias = "" if self.bias is not None else ", bias=False"
        stride = self.stride[0] if self.stride[0] == self.stride[1] else self.stride
        channels = inputs * self.groups
        return f"{channels}, {out}, {kh}x{kw}, stride={stride}, padding={self.padding!r}{groups}{bias}"


class _Pool2d(Module):
    def __init__(self, size: Size, stride: Size | None = None, padding: Size | str = 0) -> None:
        super().__init__()
        self.size = size
        self.stride = stride
        self.padding = padding

    def extra_repr(self) -> str:
        stride = self.size if self.stride is None else self.stride
        return f"{self.size}, stride={stride}, padding={self.padding!r}"


class MaxPool2d(_Pool2d):
    """Largest value of each window, see `functional.max_pool2d`.

    >>> import fp16engine as fe
    >>> fe.nn.MaxPool2d(2)(fe.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]], device="reference")).item()
    4.0
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.size, self.stride, self.padding)


class AvgPool2d(_Pool2d):
    """Mean of each window, see `functional.avg_pool2d`.

    >>> import fp16engine as fe
    >>> fe.nn.AvgPool2d(2)(fe.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]], device="reference")).item()
    2.5
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.size, self.stride, self.padding)


class GlobalAvgPool2d(Module):
    """Mean over all pixels: (N, H, W, C) -> (N, C), see `functional.global_avg_pool2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return F.global_avg_pool2d(x)
