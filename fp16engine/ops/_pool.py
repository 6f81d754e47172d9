"""Pooling over images."""

from __future__ import annotations

from collections.abc import Sequence

from ..autograd import Array, Function
from ..tensor import Tensor
from ..validate import must_be, pair
from . import _check
from ._reduce import mean

Size = int | Sequence[int]

MAX_WINDOW = 255  # pixels of a maximum pool: the slot of the maximum is kept in one byte


class MaxPool2d(Function):
    def forward(
        self, x: Array, size: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int]
    ) -> Array:
        y, self.index = self.backend.max_pool_forward(x, size, stride, pads)
        self.window = (x.shape, size, stride, pads)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.max_pool_backward(self.index, dy, *self.window, self.acc),)


class AvgPool2d(Function):
    def forward(
        self, x: Array, size: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int]
    ) -> Array:
        self.window = (x.shape, size, stride, pads)
        return self.backend.avg_pool_forward(x, size, stride, pads, self.acc)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.avg_pool_backward(dy, *self.window, self.acc),)


def window(
    op: str, size: Size, stride: Size | None, padding: Size | str, most: int | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return size and stride of a pool's window, of `most` pixels; padding is less than the size."""
    sizes = pair(f"{op}: size", size, 1)
    strides = sizes if stride is None else pair(f"{op}: stride", stride, 1)
    if most is not None and sizes[0] * sizes[1] > most:
        raise ValueError(must_be(f"{op}: size", f"at most {most} pixels", size))
    zeros = _check.padding(op, padding)
    if not isinstance(zeros, str) and (zeros[0] >= sizes[0] or zeros[1] >= sizes[1]):
        raise ValueError(
            must_be(f"{op}: padding", f"less than the size {sizes}, else a window is empty", padding)
        )
    return sizes, strides


def _pool(
    function: type[Function], op: str, x: Tensor, size: Size, stride: Size | None, padding: Size | str
) -> Tensor:
    _check.floating(op, "x", x)
    _check.rank(op, "x", x, "N, H, W, C")
    sizes, strides = window(op, size, stride, padding, MAX_WINDOW if function is MaxPool2d else None)
    pads = _check.window(op, (x.shape[1], x.shape[2]), sizes, strides, padding)
    return function.apply(x, size=sizes, stride=strides, pads=pads)


def max_pool2d(x: Tensor, size: Size, stride: Size | None = None, padding: Size | str = 0) -> Tensor:
    """Return the largest value of each window.

        y[n, i, j, c] = max over (kh, kw) of x[n, i * sh + kh - top, j * sw + kw - left, c]

    Args:
        x: images (N, H, W, C), float16, bfloat16 or float32.
        size: integer >= 1 or (vertical, horizontal); at most 255 pixels.
        stride: integer >= 1 or (vertical, horizontal); None means `size`.
        padding: integer >= 0 or (vertical, horizontal), less than `size`; or "same", TensorFlow's.

    Returns:
        (N, OH, OW, C) with OH = (H + top + bottom - size) // stride + 1, dtype of x.

    Rounding:
        None in the forward pass. Padding never wins; of equal maxima the first in (kh, kw) order does, and
        the first NaN wins over any number. The winner gets the gradient; gradients of overlapping windows
        accumulate as the active `Precision` says and are rounded once.

    Raises:
        TypeError: `x` is no floating-point Tensor, or a size is no integer or pair.
        ValueError: `x` has not four axes, a window does not fit into the image or has more than 255 pixels,
            or padding >= size.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        `tf.nn.max_pool2d`.

    >>> import fp16engine as fe
    >>> x = fe.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]], device="reference")
    >>> fe.functional.max_pool2d(x, 2).item()
    4.0
    """
    return _pool(MaxPool2d, "max_pool2d", x, size, stride, padding)


def avg_pool2d(x: Tensor, size: Size, stride: Size | None = None, padding: Size | str = 0) -> Tensor:
    """Return the mean of each window over its pixels inside the image.

        y[n, i, j, c] = sum of x[n, i * sh + kh - top, j * sw + kw - left, c] / n(i, j), both over the pixels
                        (kh, kw) that lie inside the image

    Args:
        x: images (N, H, W, C), float16, bfloat16 or float32.
        size: integer >= 1 or (vertical, horizontal).
        stride: integer >= 1 or (vertical, horizontal); None means `size`.
        padding: integer >= 0 or (vertical, horizontal), less than `size`; or "same", TensorFlow's.

    Returns:
        (N, OH, OW, C) with OH = (H + top + bottom - size) // stride + 1, dtype of x.

    Rounding:
        A window's sum accumulates in the order (kh, kw) as the active `Precision` says; its quotient is
        rounded once. The gradient of a pixel is the sum of dy / n over its windows, rounded once.

    Raises:
        TypeError: `x` is no floating-point Tensor, or a size is no integer or pair.
        ValueError: `x` has not four axes, a window does not fit into the image, or padding >= size.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        `tf.nn.avg_pool2d` (padding is not counted).

    >>> import fp16engine as fe
    >>> x = fe.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]], device="reference")
    >>> fe.functional.avg_pool2d(x, 2).item()
    2.5
    """
    return _pool(AvgPool2d, "avg_pool2d", x, size, stride, padding)


def global_avg_pool2d(x: Tensor) -> Tensor:
    """Return the mean over all pixels of each image and channel.

        y[n, c] = sum over (h, w) of x[n, h, w, c] / (H * W)

    Args:
        x: images (N, H, W, C), float16, bfloat16 or float32.

    Returns:
        (N, C), dtype of x.

    Rounding:
        The sum accumulates as the active `Precision` says; the division acts on the unrounded sum and is
        rounded once, so that a binary16 mean cannot overflow in an FP32 accumulator.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        ValueError: `x` has not four axes, or the images are empty.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        Lin et al., 2013, arXiv 1312.4400.

    >>> import fp16engine as fe
    >>> fe.functional.global_avg_pool2d(fe.tensor([[[[1.0], [3.0]]]], device="reference")).item()
    2.0
    """
    _check.floating("global_avg_pool2d", "x", x)
    _check.rank("global_avg_pool2d", "x", x, "N, H, W, C")
    return mean(x, (1, 2))
