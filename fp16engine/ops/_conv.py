"""Convolution over images."""

from __future__ import annotations

from collections.abc import Sequence

from ..autograd import Array, Function
from ..precision import active
from ..tensor import Tensor
from ..validate import integer, must_be, pair
from . import _check
from ._operand import drawn


class Conv2d(Function):
    multiplies = True
    bias_input = 2
    bias_grad_apart = True

    def forward(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        stride: tuple[int, int],
        pads: tuple[int, int, int, int],
        groups: int,
    ) -> Array:
        self.x, self.w = x, w
        self.stride, self.pads, self.groups = stride, pads, groups
        self.algorithm = active().convolution_by(self.backend, w.shape, stride, groups)
        operand = drawn(self.operand, 2, x, w)
        return self.backend.conv2d_forward(
            x, w, b, stride, pads, groups, self.acc, operand, algorithm=self.algorithm
        )

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        precomputed = self.precomputed_bias_grad
        needs = self.needs if precomputed is None else (*self.needs[:2], False)
        operand = drawn(self.operand, 4, self.x, self.w, dy)
        dx, dw, db = self.backend.conv2d_backward(
            self.x,
            self.w,
            dy,
            self.stride,
            self.pads,
            self.groups,
            needs,
            self.acc,
            operand,
            algorithm=self.algorithm,
        )
        return dx, dw, db if precomputed is None else precomputed


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    groups: int = 1,
) -> Tensor:
    """Return the cross-correlation of images with kernels, plus a bias per output channel.

        y[n, i, j, k] = bias[k] + sum over (kh, kw, c) of
                        x[n, i * sh + kh - top, j * sw + kw - left, c] * weight[k, kh, kw, c]

    Args:
        x: images (N, H, W, C), float16, bfloat16 or float32.
        weight: kernels (K, kh, kw, C / groups), dtype of x.
        bias: (K,), dtype of x, or None.
        stride: integer >= 1 or (vertical, horizontal).
        padding: integer >= 0 or (vertical, horizontal), zeros on both sides; or "same", TensorFlow's: ceil(H
            / stride) rows of output, the odd row and column of zeros at the bottom and right.
        groups: output block g reads input block g only; C and K are multiples of it.

    Returns:
        (N, OH, OW, K) with OH = (H + top + bottom - kh) // sh + 1, dtype of x.

    Rounding:
        The sum over (kh, kw, c) accumulates as the active `Precision` says; with FP32 accumulators, sum and
        bias are rounded once together. dx, dw and db are sums of the same kind, each rounded once. With a
        block format, x, weight and dy are rounded to it first, bias and db are not.

    Raises:
        TypeError: an argument is no floating-point Tensor, the dtypes differ, or stride or padding is no
            integer or pair.
        ValueError: shapes, groups, stride or padding do not fit, or the devices differ.
        UnsupportedPrecision: the active precision cannot multiply tensors of this dtype on this device.

    Source:
        `tf.nn.conv2d` (layout NHWC, padding); `torch.nn.functional.conv2d` (arguments).

    >>> import fp16engine as fe
    >>> x = fe.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]], device="reference")
    >>> fe.functional.conv2d(x, x, padding="same").numpy()[0, :, :, 0].tolist()
    [[30.0, 14.0], [11.0, 4.0]]
    """
    _check.alike("conv2d", "bias", x=x, weight=weight, bias=bias)
    _check.rank("conv2d", "x", x, "N, H, W, C")
    _check.rank("conv2d", "weight", weight, "out, kh, kw, in/groups")
    integer("conv2d: groups", groups, 1)
    channels, kernels = x.shape[3], weight.shape[0]
    if channels % groups or kernels % groups:
        raise ValueError(
            must_be("conv2d: groups", f"a divisor of {channels} input and {kernels} output channels", groups)
        )
    if weight.shape[3] * groups != channels:
        raise ValueError(
            f"conv2d: x must have {weight.shape[3] * groups} channels for weight (out, kh, kw, in/groups) of "
            f"shape {weight.shape} and groups {groups}, got {channels}"
        )
    _check.vector("conv2d", "bias", bias, kernels, "one per output channel")
    strides = pair("conv2d: stride", stride, 1)
    pads = _check.window(
        "conv2d", (x.shape[1], x.shape[2]), (weight.shape[1], weight.shape[2]), strides, padding
    )
    return Conv2d.apply(x, weight, bias, stride=strides, pads=pads, groups=groups)
