"""Depthwise separable convolution."""

from __future__ import annotations

from collections.abc import Sequence

from ..tensor import Tensor
from .conv import Conv2d
from .module import Module


class SeparableConv2d(Module):
    """A filter per channel, then a 1x1 convolution: (N, H, W, in_channels) -> (N, OH, OW, out_channels).

    Nothing lies between the two (Chollet, 1610.02357); the filtered channels are rounded and stored once, as
    every `functional.conv2d` does. Arguments as in `Conv2d`; only the 1x1 convolution has a bias.

    Raises:
        ValueError: a number of channels, size, stride or padding is out of range.

    >>> import fp16engine as fe
    >>> layer = fe.nn.SeparableConv2d(2, 8, 3, stride=2)
    >>> layer.depthwise.weight.shape, layer.pointwise.weight.shape
    ((2, 3, 3, 1), (8, 1, 1, 2))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = "same",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.depthwise = Conv2d(
            in_channels, in_channels, size, stride, padding, groups=in_channels, bias=False
        )
        self.pointwise = Conv2d(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))
