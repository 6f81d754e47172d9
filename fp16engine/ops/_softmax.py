"""Softmax, its logarithm, and the cross-entropy loss."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from .. import backend as backends
from ..autograd import Array, Function
from ..tensor import Tensor
from ..validate import must_be, number, numpys_names
from . import _check


class Softmax(Function):
    def forward(self, x: Array, axis: int) -> Array:
        self.axis, self.y = axis, self.backend.softmax(x, axis, self.acc)
        return self.y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.softmax_backward(self.y, dy, self.axis, self.acc),)


class LogSoftmax(Function):
    def forward(self, x: Array, axis: int) -> Array:
        self.axis, self.y = axis, self.backend.log_softmax(x, axis, self.acc)
        return self.y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.log_softmax_backward(self.y, dy, self.axis, self.acc),)


class CrossEntropy(Function):
    def forward(self, logits: Array, labels: Array, smoothing: float) -> Array:
        self.saved, self.smoothing = (logits, labels), smoothing
        return self.backend.cross_entropy_forward(logits, labels, self.acc, smoothing)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return self.backend.cross_entropy_backward(*self.saved, dy, self.acc, self.smoothing), None


def _axis(op: str, x: Tensor, axis: int) -> int:
    _check.floating(op, "x", x)
    axis = _check.axis(op, axis, x.ndim)
    if x.shape[axis] == 0:
        raise ValueError(f"{op}: x must have at least one element along axis {axis}, got shape {x.shape}")
    return axis


@numpys_names
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return the softmax along an axis.

        y = exp(x - max(x)) / sum(exp(x - max(x)))

    Args:
        x: any shape, float16, bfloat16 or float32; at least one element along `axis`.
        axis: the axis that sums to 1.

    Returns:
        The shape and dtype of x.

    Rounding:
        The exponentials stay in FP32 registers and accumulate as the active `Precision` says; the quotient is
        rounded once. The gradient y * (dy - sum(dy * y)) follows from the stored y and is rounded once.

    Raises:
        TypeError: `x` is no floating-point Tensor, or `axis` no integer.
        ValueError: the axis does not exist or is empty.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.softmax(fe.tensor([1000.0, 1000.0], "float16", "reference")).numpy().tolist()
    [0.5, 0.5]
    """
    return Softmax.apply(x, axis=_axis("softmax", x, axis))


@numpys_names
def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return the logarithm of the softmax along an axis, finite where the softmax rounds to 0.

        y = (x - max(x)) - log(sum(exp(x - max(x))))

    Args:
        x: any shape, float16, bfloat16 or float32; at least one element along `axis`.
        axis: the axis whose exponentials sum to 1.

    Returns:
        The shape and dtype of x.

    Rounding:
        The exponentials stay in FP32 registers and accumulate as the active `Precision` says; y is rounded
        once. The gradient dy - exp(y) * sum(dy) follows from the stored y and is rounded once.

    Raises:
        TypeError: `x` is no floating-point Tensor, or `axis` no integer.
        ValueError: the axis does not exist or is empty.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> fe.functional.log_softmax(fe.tensor([0.0, 100.0], "float16", "reference")).numpy().tolist()
    [-100.0, 0.0]
    """
    return LogSoftmax.apply(x, axis=_axis("log_softmax", x, axis))


def cross_entropy(
    logits: Tensor, labels: Tensor, ignore_index: int | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy of a batch, fused with the log-softmax.

        loss = mean over the n samples that count of -log_softmax(logits)[label]

    Args:
        logits: (N, K), float16, bfloat16 or float32; N and K at least 1.
        labels: (N,), int64 in [0, K), or `ignore_index`.
        ignore_index: the label of samples that do not count; None: all count.
        label_smoothing: h in [0, 1]; the target is (1 - h) * onehot + h / K in place of onehot.

    Returns:
        A scalar (), dtype of logits.

    Rounding:
        The losses of the samples stay in registers; their sum accumulates as the active `Precision` says, and
        the mean is rounded once. The gradient (softmax - target) * (dy / n) is rounded once: a loss scale in
        dy acts before 1 / n can underflow. Samples that do not count get 0. The mean of a sample's logits,
        which smoothing needs, accumulates as `mean` does.

    Raises:
        TypeError: `logits` is no floating-point Tensor, `labels` no int64 Tensor, or ignore_index no integer.
        ValueError: the shapes do not fit, a label or the smoothing is out of range, or no sample counts.
        UnsupportedPrecision: logits are float32 under a precision with binary16 accumulators.

    Source:
        `torch.nn.functional.cross_entropy` (arguments); Szegedy et al., 2015, arXiv 1512.00567 (smoothing).

    >>> import fp16engine as fe
    >>> logits = fe.tensor([[0.0, 100.0]], "float16", "reference")
    >>> fe.functional.cross_entropy(logits, fe.tensor([0], device="reference")).item()
    100.0
    """
    _check.floating("cross_entropy", "logits", logits)
    _check.rank("cross_entropy", "logits", logits, "N, K")
    if logits.size == 0:
        raise ValueError(
            f"cross_entropy: logits must have at least one sample and class, got shape {logits.shape}"
        )
    if ignore_index is not None:
        labels = _uncounted(labels, ignore_index, logits.shape[1])
    else:
        _check.indices("cross_entropy", "labels", labels, logits.shape[1], "classes")
    _check.vector("cross_entropy", "labels", labels, logits.shape[0], "one per row of logits")
    _check.same_device("cross_entropy", "logits", logits, "labels", labels)
    number("cross_entropy: label_smoothing", label_smoothing, minimum=0, maximum=1)
    return CrossEntropy.apply(logits, labels, smoothing=float(label_smoothing))


def _uncounted(labels: Tensor, ignore_index: int, classes: int) -> Tensor:
    """Return the checked labels with -1, which the backends do not count, for `ignore_index`."""
    if not isinstance(ignore_index, Integral) or isinstance(ignore_index, bool):
        raise TypeError(must_be("cross_entropy: ignore_index", "an integer or None", ignore_index))
    _check.integers("cross_entropy", "labels", labels)
    if ignore_index == -1 and _check.recording(labels):
        return labels
    host = labels.numpy()
    counted = host != ignore_index
    if not counted.any():
        raise ValueError(
            f"cross_entropy: labels must have one other than ignore_index, got {ignore_index} only"
        )
    _check.within("cross_entropy", "labels", host[counted], classes, "classes")
    if ignore_index == -1:
        return labels
    return Tensor(backends.get(labels.device).from_numpy(np.where(counted, host, -1)), labels.device)
