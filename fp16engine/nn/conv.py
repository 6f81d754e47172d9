"""Convolution and pooling layers."""

from __future__ import annotations

from collections.abc import Sequence

from .. import functional as F
from ..ops import _check, _pool
from ..tensor import Tensor
from ..validate import either, flag, must_be, pair
from . import init
from .module import Module

Size = int | Sequence[int]


class Conv2d(Module):
    """Convolve images with trained kernels, see `functional.conv2d`.

    Args:
        in_channels: channels C of the input, a multiple of `groups`.
        out_channels: channels K of the output, a multiple of `groups`.
        size: of the kernels, integer >= 1 or (vertical, horizontal); `kernel_size` is the same.
        stride: integer >= 1 or (vertical, horizontal).
        padding: "same" (TensorFlow's), or an integer >= 0 or (vertical, horizontal) of zeros on both sides.
        groups: output block g reads input block g only.
        bias: whether a bias per output channel is added.
        weight_decay: L2 factor of the kernels alone; None means the optimizer's.
        kernel_size: in place of `size`, PyTorch's name.

    Attributes:
        weight: (K, kh, kw, C / groups), Glorot-uniform with fans kh * kw * C / groups and kh * kw * K.
        bias: (K,), zeros; or None.

    Call:
        x: (N, H, W, C), dtype of weight, float16, bfloat16 or float32; the result is (N, OH, OW, K). The sum
            accumulates as the active `Precision` says; sum and bias are rounded once.

    Raises:
        ValueError: a number of channels or groups, the size or the stride does not fit; at the call, a shape.
        TypeError: size or stride is no integer or pair, or `size` is given by no or two names.

    Source:
        `keras.layers.Conv2D` (initial values); Glorot and Bengio, 2010.

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
        size: Size | None = None,
        stride: Size = 1,
        padding: Size | str = "same",
        groups: int = 1,
        bias: bool = True,
        weight_decay: float | None = None,
        *,
        kernel_size: Size | None = None,
    ) -> None:
        super().__init__()
        init.positive("Conv2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                must_be(
                    "Conv2d: groups",
                    f"a divisor of {in_channels} input and {out_channels} output channels",
                    groups,
                )
            )
        kh, kw = pair("Conv2d: size", either("Conv2d", size=size, kernel_size=kernel_size), 1)
        self.stride = pair("Conv2d: stride", stride, 1)
        _check.padding("Conv2d", padding)
        self.padding = padding
        self.groups = groups
        inputs = in_channels // groups
        self.weight = init.glorot_uniform(
            (out_channels, kh, kw, inputs), kh * kw * inputs, kh * kw * out_channels, weight_decay
        )
        self.bias = init.constant((out_channels,), 0.0) if flag("Conv2d: bias", bias) else None

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
    max_window: int | None = None  # pixels

    def __init__(
        self,
        size: Size | None = None,
        stride: Size | None = None,
        padding: Size | str = 0,
        *,
        kernel_size: Size | None = None,
    ) -> None:
        super().__init__()
        size = either(type(self).__name__, size=size, kernel_size=kernel_size)
        _pool.window(type(self).__name__, size, stride, padding, self.max_window)
        self.size = size
        self.stride = stride
        self.padding = padding

    def extra_repr(self) -> str:
        stride = self.size if self.stride is None else self.stride
        return f"{self.size}, stride={stride}, padding={self.padding!r}"


class MaxPool2d(_Pool2d):
    """Take the largest value of each window, see `functional.max_pool2d`.

    Args:
        size: of the window, integer >= 1 or (vertical, horizontal).
        stride: integer >= 1 or (vertical, horizontal); None means `size`.
        padding: integer >= 0 or (vertical, horizontal), less than `size`, or "same".
        kernel_size: in place of `size`, PyTorch's name.

    Call:
        x: (N, H, W, C), float16, bfloat16 or float32; the result is (N, OH, OW, C), not rounded.

    Raises:
        ValueError: size, stride or padding is out of range; at the call, the window does not fit.
        TypeError: one of them is no integer or pair, or `size` is given by no or two names.

    >>> import fp16engine as fe
    >>> fe.nn.MaxPool2d(2)(fe.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]], device="reference")).item()
    4.0
    """

    max_window = _pool.MAX_WINDOW

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.size, self.stride, self.padding)


class AvgPool2d(_Pool2d):
    """Take the mean of each window, see `functional.avg_pool2d`.

    Args:
        size: of the window, integer >= 1 or (vertical, horizontal).
        stride: integer >= 1 or (vertical, horizontal); None means `size`.
        padding: integer >= 0 or (vertical, horizontal), less than `size`, or "same"; it is not counted.
        kernel_size: in place of `size`, PyTorch's name.

    Call:
        x: (N, H, W, C), float16, bfloat16 or float32; the result is (N, OH, OW, C), rounded once.

    Raises:
        ValueError: size, stride or padding is out of range; at the call, the window does not fit.
        TypeError: one of them is no integer or pair, or `size` is given by no or two names.

    >>> import fp16engine as fe
    >>> fe.nn.AvgPool2d(2)(fe.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]], device="reference")).item()
    2.5
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.size, self.stride, self.padding)


class AdaptiveAvgPool2d(Module):
    """Take the mean of as many windows as the output has pixels, see `functional.adaptive_avg_pool2d`.

    Args:
        output_size: integer >= 1 or (vertical, horizontal).

    Call:
        x: (N, H, W, C), float16, bfloat16 or float32; the result is (N, OH, OW, C), rounded once.

    Raises:
        ValueError: a size is out of range.
        TypeError: it is no integer or pair.

    >>> import fp16engine as fe
    >>> fe.nn.AdaptiveAvgPool2d(1)(fe.tensor([[[[1.0], [3.0]]]], device="reference")).shape
    (1, 1, 1, 1)
    """

    def __init__(self, output_size: Size) -> None:
        super().__init__()
        self.output_size = pair("AdaptiveAvgPool2d: output_size", output_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return str(self.output_size)


class GlobalAvgPool2d(Module):
    """Take the mean over all pixels, see `functional.global_avg_pool2d`.

    Call:
        x: (N, H, W, C), float16, bfloat16 or float32; the result is (N, C), rounded once.

    >>> import fp16engine as fe
    >>> fe.nn.GlobalAvgPool2d()(fe.tensor([[[[1.0], [3.0]]]], device="reference")).item()
    2.0
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.global_avg_pool2d(x)
