"""Depthwise separable convolution."""

from __future__ import annotations

from collections.abc import Sequence

from ..tensor import Tensor
from .conv import Conv2d
from .module import Module


class SeparableConv2d(Module):
    """Convolve each channel with a kernel of its own, then all channels with 1x1 kernels.

        y = pointwise(depthwise(x)), nothing between the two

    Args:
        in_channels: channels C of the input.
        out_channels: channels K of the output.
        size: of the kernels per channel, integer >= 1 or (vertical, horizontal).
        stride: integer >= 1 or (vertical, horizontal).
        padding: "same" (TensorFlow's), or an integer >= 0 or (vertical, horizontal) of zeros on both sides.
        bias: whether the 1x1 convolution has a bias.

    Attributes:
        depthwise: `Conv2d` with C groups, without a bias.
        pointwise: `Conv2d` of size 1.

    Call:
        x: (N, H, W, C), float16, bfloat16 or float32; the result is (N, OH, OW, K). Both convolutions are
            rounded and stored once, as `functional.conv2d` does.

    Raises:
        ValueError: a number of channels, the size or the stride does not fit; at the call, a shape.
        TypeError: size or stride is no integer or pair.

    Source:
        Chollet, 2016, arXiv 1610.02357 (Xception).

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
