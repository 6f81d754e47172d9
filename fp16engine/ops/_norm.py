"""Batch and layer normalisation."""

from __future__ import annotations

import math

from ..autograd import Array, Function
from ..tensor import Tensor
from . import _check


class BatchNorm(Function):
    """Training: statistics of the batch. x alone is kept; the ReLU mask is recomputed from it."""

    def forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        momentum: float,
        eps: float,
        relu: bool,
    ) -> Array:
        y, mean, inv_std = self.backend.batch_norm_forward(
            x, gamma, beta, running_mean, running_var, momentum, eps, relu, self.acc
        )
        self.saved = (x, gamma, beta, mean, inv_std)
        self.relu = relu
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        dx, dgamma, dbeta = self.backend.batch_norm_backward(*self.saved, dy, self.relu, self.acc)
        return dx, dgamma, dbeta, None, None


class BatchNormInference(Function):
    """Evaluation: fixed statistics, an affine map per channel, computed in the dtype of gamma."""

    def forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        eps: float,
        relu: bool,
    ) -> Array:
        y = self.backend.batch_norm_inference(x, gamma, beta, running_mean, running_var, eps, relu)
        self.x, self.gamma, self.mean, self.var = x, gamma, running_mean, running_var
        self.eps, self.y = eps, y if relu else None
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        f, statistics = self.backend, str(self.gamma.dtype)
        if self.y is not None:
            dy = f.unary_backward("relu", None, self.y, dy)
        storage = str(dy.dtype)
        if storage != statistics:
            dy = f.cast(dy, statistics)
        inv_std = f.power(f.binary("add", self.var, self.eps), -0.5)
        dx = dgamma = dbeta = None
        axes = tuple(range(len(dy.shape) - 1))
        if self.needs[0]:
            dx = f.binary("mul", dy, f.binary("mul", self.gamma, inv_std))
            if storage != statistics:
                dx = f.cast(dx, storage)
        if self.needs[1]:
            x = self.x if storage == statistics else f.cast(self.x, statistics)
            xhat = f.binary("mul", f.binary("sub", x, self.mean), inv_std)
            dgamma = f.sum(f.binary("mul", dy, xhat), axes, self.acc).reshape(self.gamma.shape)
        if self.needs[2]:
            dbeta = f.sum(dy, axes, self.acc).reshape(self.gamma.shape)
        return dx, dgamma, dbeta, None, None


class LayerNorm(Function):
    def forward(self, x: Array, gamma: Array, beta: Array, eps: float) -> Array:
        y, mean, inv_std = self.backend.layer_norm_forward(x, gamma, beta, eps, self.acc)
        self.saved = (x, gamma, mean, inv_std)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return self.backend.layer_norm_backward(*self.saved, dy, self.acc)


def _arguments(op: str, x: Tensor, eps: float, **statistics: Tensor) -> None:
    _check.floating(op, "x", x)
    _check.alike(op, **statistics)
    gamma = statistics["gamma"]
    _check.same_device(op, "x", x, "gamma", gamma)
    wanted = ("float16", "float32") if x.dtype == "float16" else (x.dtype,)
    if gamma.dtype not in wanted:
        raise TypeError(
            f"{op}: x is {x.dtype} and gamma {gamma.dtype}; gamma in {' or '.join(wanted)} is wanted"
        )
    if x.ndim == 0:
        raise ValueError(f"{op}: x has shape (), (..., C) is wanted")
    for name, t in statistics.items():
        _check.vector(op, name, t, x.shape[-1], "one per channel, the last axis of x")
    if not _check.is_number(eps) or not (math.isfinite(eps) and eps > 0):
        raise ValueError(f"{op}: eps is {eps!r}, a finite number > 0 is wanted")


def batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float = 0.99,
    eps: float = 1e-3,
    activation: str | None = None,
) -> Tensor:
    """Return gamma * (x - mean) / sqrt(var + eps) + beta per channel (Ioffe and Szegedy, 1502.03167).

    Args:
        x: (..., C).
        gamma, beta, running_mean, running_var: (C,), all of x's dtype, or all float32 with a float16 x.
        training: True normalises by mean and biased variance of the batch and moves the running statistics in
            place, running = momentum * running + (1 - momentum) * batch; False normalises by the running
            statistics.
        momentum: share of the old running statistics that is kept, in [0, 1].
        eps: added to the variance.
        activation: None, or "relu", fused: the normalised values themselves are then never stored.

    The batch statistics are accumulated as the active precision says and rounded to the dtype of gamma; y is
    computed in FP32 registers and rounded once to the dtype of x. With gamma in float16 this is the study's
    16-bit batch norm.

    Raises:
        TypeError: an argument is no floating-point Tensor, or the dtypes do not go together.
        ValueError: shapes, devices, momentum, eps or activation do not fit, or a training batch is empty.

    >>> import fp16engine as fe
    >>> x, gamma, beta, mean, var = (
    ...     fe.tensor(v, device="reference") for v in ([[1.0], [3.0]], [1.0], [0.0], [0.0], [1.0])
    ... )
    >>> y = fe.functional.batch_norm(x, gamma, beta, mean, var, training=True, eps=1e-9)
    >>> y.numpy().ravel().tolist()
    [-1.0, 1.0]
    """
    _arguments(
        "batch_norm", x, eps, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var
    )
    if activation not in (None, "relu"):
        raise ValueError(f"batch_norm: activation is {activation!r}, None or 'relu' is wanted")
    if not _check.is_number(momentum) or not 0 <= momentum <= 1:
        raise ValueError(f"batch_norm: momentum is {momentum!r}, a number in [0, 1] is wanted")
    inputs = (x, gamma, beta, running_mean, running_var)
    relu = activation == "relu"
    if not training:
        return BatchNormInference.apply(*inputs, eps=float(eps), relu=relu)
    if x.size == 0:
        raise ValueError(
            f"batch_norm: x has shape {x.shape}, at least one value per channel is wanted in training"
        )
    return BatchNorm.apply(*inputs, momentum=float(momentum), eps=float(eps), relu=relu)


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-6) -> Tensor:
    """Return gamma * (x - mean) / sqrt(var + eps) + beta over the last axis (Ba et al., 1607.06450).

    x: (..., C); gamma, beta: (C,) of x's dtype, or both float32 with a float16 x. Statistics are accumulated
        as the
    active precision says and rounded to the dtype of gamma; y is rounded once to the dtype of x.

    Raises:
        TypeError: an argument is no floating-point Tensor, or the dtypes do not go together.
        ValueError: shapes, devices or eps do not fit.

    >>> import fp16engine as fe
    >>> x, one, zero = (fe.tensor(v, device="reference") for v in ([[1.0, 3.0]], [1.0, 1.0], [0.0, 0.0]))
    >>> fe.functional.layer_norm(x, one, zero, eps=1e-9).numpy().tolist()
    [[-1.0, 1.0]]
    """
    _arguments("layer_norm", x, eps, gamma=gamma, beta=beta)
    return LayerNorm.apply(x, gamma, beta, eps=float(eps))
