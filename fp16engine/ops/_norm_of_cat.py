"""Batch normalisation of channels side by side."""

from __future__ import annotations

from typing import Any

from ..autograd import Array, Function
from ..tensor import Tensor
from . import _check
from ._norm import batch_norm, batch_norm_arguments, counted_arrays
from ._shape import cat


class BatchNormOfCat(Function):
    """Training: s = x and joined side by side, and the norm of s by the same kernels; s is kept as
    `BatchNorm` keeps x."""

    outputs = 2

    def forward(
        self,
        x: Array,
        joined: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        momentum: float,
        eps: float,
        activation: str | None,
        **counted: Array | None,
    ) -> tuple[Array, Array]:
        vectors, options = (gamma, beta, running_mean, running_var), (momentum, eps, activation, self.acc)
        y, mean, inv_std, s = self.backend.batch_norm_forward(x, *vectors, *options, joined=joined, **counted)
        self.saved = (s, gamma, beta, mean, inv_std)
        self.activation, self.split = activation, x.shape[-1]
        return s, y

    def backward(self, ds: Array | None, dy: Array | None) -> tuple[Array | None, ...]:
        if dy is None:
            parts = (slice(self.split), slice(self.split, None))
            dx, djoined = (self.backend.getitem(ds, (..., part)) for part in parts)
            return dx, djoined, None, None, None, None
        dx, dgamma, dbeta, djoined, _ = self.backend.batch_norm_backward(
            *self.saved, dy, self.activation, self.acc, None, ds, split=self.split
        )
        return dx, djoined, dgamma, dbeta, None, None


def batch_norm_of_cat(
    x: Tensor,
    joined: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float = 0.99,
    eps: float = 1e-3,
    activation: str | None = None,
    updates: Tensor | None = None,
    rest: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return channels side by side and their batch norm: the joint of two layers of a DenseNet.

        s = cat([x, joined], axis=-1);  y = batch_norm(s)

    Args:
        x: (..., C), float16, bfloat16 or float32.
        joined: (..., D), the other axes and the dtype of x.
        gamma: scale (C + D,), dtype of x, or float32 with a float16 x.
        beta: shift (C + D,), dtype of gamma.
        running_mean: (C + D,), dtype of gamma.
        running_var: (C + D,), dtype of gamma.
        training: as in `batch_norm`.
        momentum: as in `batch_norm`.
        eps: as in `batch_norm`.
        activation: as in `batch_norm`.
        updates: (1,), int64, or None, as in `batch_norm`.
        rest: (2, C + D), dtype of running_mean, or None, as in `batch_norm`.

    Returns:
        (s, y), both (..., C + D), dtype of x.

    Rounding:
        As `cat`, which rounds nothing, and `batch_norm`, bit for bit; in training on a GPU, the kernel that
        finds the statistics joins the channels, and the one of the gradient parts them.

    Raises:
        TypeError: an argument is no floating-point Tensor, or the dtypes do not go together.
        ValueError: shapes, devices, momentum, eps or activation do not fit, or a training batch is empty.
        UnsupportedPrecision: x or gamma is float32 under a precision with binary16 accumulators.

    Source:
        Huang et al., 2017, arXiv 1608.06993.

    >>> import fp16engine as fe
    >>> x = fe.tensor([[1.0], [3.0]], device="reference")
    >>> one, zero, mean, var = (fe.tensor([v, v], device="reference") for v in (1.0, 0.0, 0.0, 1.0))
    >>> s, y = fe.functional.batch_norm_of_cat(x, x, one, zero, mean, var, training=True, eps=1e-9)
    >>> s.numpy().tolist(), y.numpy().tolist()
    ([[1.0, 1.0], [3.0, 3.0]], [[-1.0, -1.0], [1.0, 1.0]])
    """
    op, vectors = "batch_norm_of_cat", (gamma, beta, running_mean, running_var)
    _check.alike(op, x=x, joined=joined)
    if joined.ndim != x.ndim or x.ndim == 0 or joined.shape[:-1] != x.shape[:-1]:
        raise ValueError(f"{op}: joined must be of shape {x.shape} but for the last axis, got {joined.shape}")
    options: dict[str, Any] = {"momentum": momentum, "eps": eps, "activation": activation}
    if not training:
        s = cat([x, joined], axis=-1)
        return s, batch_norm(s, *vectors, training, **options, updates=updates, rest=rest)
    counted = (updates, rest)
    batch_norm_arguments(op, x, vectors, training, momentum, eps, activation, *counted, joined.shape[-1])
    options = {"momentum": float(momentum), "eps": float(eps), "activation": activation}
    s, y = BatchNormOfCat.apply_all(x, joined, *vectors, **options, **counted_arrays(*counted))
    return s, y
