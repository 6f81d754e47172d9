"""Batch and layer normalisation."""

from __future__ import annotations

from typing import Any

from ..autograd import Array, Function, GradAndBiasGrad
from ..floats import is_sixteen_bit
from ..tensor import Tensor
from ..validate import flag, must_be, number, one_of
from . import _check

FUSED = ("relu", "relu6")  # activations that a batch norm applies itself


class BatchNorm(Function):
    """Training: statistics of the batch. x is kept, the mask of a ReLU recomputed from it unless there is a
    residual."""

    fuses_grad_sum = True

    def forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        residual: Array | None,
        momentum: float,
        eps: float,
        activation: str | None,
        **counted: Array | None,
    ) -> Array:
        vectors, options = (gamma, beta, running_mean, running_var), (momentum, eps, activation, self.acc)
        y, mean, inv_std, _ = self.backend.batch_norm_forward(x, *vectors, *options, residual, **counted)
        self.saved = (x, gamma, beta, mean, inv_std)
        self.activation = activation
        self.y = y if activation and residual is not None else None
        return y

    def backward(self, dy: Array) -> tuple[Array | GradAndBiasGrad | None, ...]:
        sums = self.bias_grad_node() is not None
        dx, dgamma, dbeta, dr, db = self.backend.batch_norm_backward(
            *self.saved, dy, self.activation, self.acc, self.y, self.pending_grad, sums
        )
        dx = GradAndBiasGrad(dx, db) if sums else dx
        return dx, dgamma, dbeta, None, None, (dy if dr is None else dr) if self.needs[5] else None


class BatchNormOfSum(Function):
    """Training: s = x + addend and the norm of s by the same kernels; s is kept as `BatchNorm` keeps x."""

    outputs = 2

    def forward(
        self,
        x: Array,
        addend: Array,
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
        y, mean, inv_std, s = self.backend.batch_norm_forward(x, *vectors, *options, addend=addend, **counted)
        self.saved = (s, gamma, beta, mean, inv_std)
        self.activation = activation
        return s, y

    def backward(self, ds: Array | None, dy: Array | None) -> tuple[Array | GradAndBiasGrad | None, ...]:
        if dy is None:
            return ds, ds, None, None, None, None
        sums = self.bias_grad_node() is not None
        dx, dgamma, dbeta, _, db = self.backend.batch_norm_backward(
            *self.saved, dy, self.activation, self.acc, None, ds, sums
        )
        return GradAndBiasGrad(dx, db) if sums else dx, dx, dgamma, dbeta, None, None


class BatchNormInference(Function):
    """Evaluation: fixed statistics, an affine map per channel, computed in the dtype of gamma."""

    def forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        residual: Array | None,
        eps: float,
        activation: str | None,
        deviation: bool,
    ) -> Array:
        self.x, self.gamma, self.running = x, gamma, (running_mean, running_var)
        self.eps, self.deviation = eps, deviation
        options = (eps, activation, residual, deviation)
        y = self.backend.batch_norm_inference(x, gamma, beta, *self.running, *options)
        self.y, self.activation = y if activation else None, activation
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        f, statistics = self.backend, str(self.gamma.dtype)
        if self.activation:
            dy = f.unary_backward(self.activation, None, self.y, dy)
        dr = dy if self.needs[5] else None
        storage = str(dy.dtype)
        if storage != statistics:
            dy = f.cast(dy, statistics)
        inv_std = self._inverse_std()
        dx = dgamma = dbeta = None
        axes = tuple(range(len(dy.shape) - 1))
        if self.needs[0]:
            dx = f.binary("mul", dy, f.binary("mul", self.gamma, inv_std))
            if storage != statistics:
                dx = f.cast(dx, storage)
        if self.needs[1]:
            x = self.x if storage == statistics else f.cast(self.x, statistics)
            xhat = f.binary("mul", f.binary("sub", x, self.running[0]), inv_std)
            dgamma = f.sum(f.binary("mul", dy, xhat), axes, self.acc).reshape(self.gamma.shape)
        if self.needs[2]:
            dbeta = f.sum(dy, axes, self.acc).reshape(self.gamma.shape)
        return dx, dgamma, dbeta, None, None, dr

    def _inverse_std(self) -> Array:
        """1 / sqrt(var + eps), rounded once: y of x = 1 where nothing else is done to it."""
        f, (_, var) = self.backend, self.running
        zeros, ones = (f.full(self.gamma.shape, value, str(self.gamma.dtype)) for value in (0.0, 1.0))
        return f.batch_norm_inference(ones, ones, zeros, zeros, var, self.eps, None, None, self.deviation)


class LayerNorm(Function):
    def forward(self, x: Array, gamma: Array, beta: Array, eps: float) -> Array:
        y, mean, inv_std = self.backend.layer_norm_forward(x, gamma, beta, eps, self.acc)
        self.saved = (x, gamma, mean, inv_std)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return self.backend.layer_norm_backward(*self.saved, dy, self.acc)


def _arguments(op: str, x: Tensor, eps: float, joined: int = 0, **statistics: Tensor) -> None:
    _check.floating(op, "x", x)
    _check.alike(op, **statistics)
    gamma = statistics["gamma"]
    _check.same_device(op, "x", x, "gamma", gamma)
    valid = (x.dtype, "float32") if is_sixteen_bit(x.dtype) else (x.dtype,)
    if gamma.dtype not in valid:
        raise TypeError(f"{op}: gamma must be {' or '.join(valid)} for {x.dtype} x, got {gamma.dtype}")
    if x.ndim == 0:
        raise ValueError(f"{op}: x must be of shape (..., C), got ()")
    for name, t in statistics.items():
        _check.vector(op, name, t, x.shape[-1] + joined, "one per channel, the last axis of x")
    number(f"{op}: eps", eps, above=0)


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
    residual: Tensor | None = None,
    updates: Tensor | None = None,
    rest: Tensor | None = None,
) -> Tensor:
    """Return x normalised per channel, scaled and shifted; optionally with a residual and ReLU.

        y = gamma * (x - mean) / sqrt(var + eps) + beta

    Args:
        x: (..., C), float16, bfloat16 or float32.
        gamma: scale (C,), dtype of x, or float32 with a float16 x.
        beta: shift (C,), dtype of gamma.
        running_mean: (C,), dtype of gamma.
        running_var: (C,), dtype of gamma.
        training: True normalises by mean and biased variance of the batch and moves the running statistics in
            place, running = momentum * running + (1 - momentum) * batch; False normalises by the running
            statistics.
        momentum: share of the old running statistics that is kept, in [0, 1].
        eps: added to the variance; finite, > 0.
        activation: None, "relu" or "relu6", fused: the normalised values themselves are then never stored.
        residual: shape and dtype of x, added before the activation, fused; or None.
        updates: (1,), int64: how often the running statistics were moved, or None. Training raises it by one
            to t and takes the share max(1 - momentum, 10 / (t + 9)) of the batch: no bias towards initial
            values.
        rest: (2, C), dtype of running_mean, or None. With it running_var holds standard deviations, which
            reach as far as x does, and rest the rounding error of mean and deviation, so that small
            changes add up.

    Returns:
        The shape and dtype of x.

    Rounding:
        Mean and variance (two passes, never E[x^2] - E[x]^2) accumulate as the active `Precision` says; mean
        and 1 / sqrt(var + eps) are rounded to the dtype of gamma. y is computed in FP32 registers and rounded
        once, residual and activation included. Each running statistic is rounded once to its dtype. With
        gamma in float16 this is the 16-bit batch norm of arXiv 2305.10947.

    Raises:
        TypeError: an argument is no floating-point Tensor, or the dtypes do not go together.
        ValueError: shapes, devices, momentum, eps or activation do not fit, or a training batch is empty.
        UnsupportedPrecision: x or gamma is float32 under a precision with binary16 accumulators.

    Source:
        Ioffe and Szegedy, 2015, arXiv 1502.03167; `keras.layers.BatchNormalization` (momentum, eps).

    >>> import fp16engine as fe
    >>> x, gamma, beta, mean, var = (
    ...     fe.tensor(v, device="reference") for v in ([[1.0], [3.0]], [1.0], [0.0], [0.0], [1.0])
    ... )
    >>> y = fe.functional.batch_norm(x, gamma, beta, mean, var, training=True, eps=1e-9)
    >>> y.numpy().ravel().tolist()
    [-1.0, 1.0]
    """
    vectors = (gamma, beta, running_mean, running_var)
    batch_norm_arguments("batch_norm", x, vectors, training, momentum, eps, activation, updates, rest)
    if residual is not None:
        _like_x("batch_norm", x, "residual", residual)
    options = {"eps": float(eps), "activation": activation}
    if not training:
        return BatchNormInference.apply(x, *vectors, residual, **options, deviation=rest is not None)
    return BatchNorm.apply(
        x, *vectors, residual, momentum=float(momentum), **options, **counted_arrays(updates, rest)
    )


def batch_norm_of_sum(
    x: Tensor,
    addend: Tensor,
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
    """Return a sum and its batch norm: the joint of two pre-activation residual blocks.

        s = x + addend;  y = batch_norm(s)

    Args:
        x: (..., C), float16, bfloat16 or float32.
        addend: shape and dtype of x.
        gamma: scale (C,), dtype of x, or float32 with a float16 x.
        beta: shift (C,), dtype of gamma.
        running_mean: (C,), dtype of gamma.
        running_var: (C,), dtype of gamma.
        training: as in `batch_norm`.
        momentum: as in `batch_norm`.
        eps: as in `batch_norm`.
        activation: as in `batch_norm`.
        updates: (1,), int64, or None, as in `batch_norm`.
        rest: (2, C), dtype of running_mean, or None, as in `batch_norm`.

    Returns:
        (s, y), both of the shape and dtype of x.

    Rounding:
        s is rounded once and stored; y follows from the stored s as in `batch_norm`. Both have the bits of
        the two operations one after the other; in training, the kernel that finds the statistics forms the
        sum.

    Raises:
        TypeError: an argument is no floating-point Tensor, or the dtypes do not go together.
        ValueError: shapes, devices, momentum, eps or activation do not fit, or a training batch is empty.
        UnsupportedPrecision: x or gamma is float32 under a precision with binary16 accumulators.

    Source:
        He et al., 2016, arXiv 1603.05027 (pre-activation blocks).

    >>> import fp16engine as fe
    >>> x, gamma, beta, mean, var = (
    ...     fe.tensor(v, device="reference") for v in ([[1.0], [3.0]], [1.0], [0.0], [0.0], [1.0])
    ... )
    >>> s, y = fe.functional.batch_norm_of_sum(x, x, gamma, beta, mean, var, training=True, eps=1e-9)
    >>> s.numpy().ravel().tolist(), y.numpy().ravel().tolist()
    ([2.0, 6.0], [-1.0, 1.0])
    """
    op, vectors = "batch_norm_of_sum", (gamma, beta, running_mean, running_var)
    batch_norm_arguments(op, x, vectors, training, momentum, eps, activation, updates, rest)
    _like_x(op, x, "addend", addend)
    if not training:
        s = x + addend
        return s, batch_norm(s, *vectors, training, momentum, eps, activation, None, updates, rest)
    options: dict[str, Any] = {"momentum": float(momentum), "eps": float(eps), "activation": activation}
    s, y = BatchNormOfSum.apply_all(x, addend, *vectors, **options, **counted_arrays(updates, rest))
    return s, y


def batch_norm_arguments(
    op: str,
    x: Tensor,
    vectors: tuple[Tensor, Tensor, Tensor, Tensor],
    training: bool,
    momentum: float,
    eps: float,
    activation: str | None,
    updates: Tensor | None,
    rest: Tensor | None,
    joined: int = 0,
) -> None:
    """Check what every form of batch norm takes; `joined`: channels that come to those of x."""
    names = ("gamma", "beta", "running_mean", "running_var")
    _arguments(op, x, eps, joined, **dict(zip(names, vectors, strict=True)))
    if activation not in (None, *FUSED):
        raise ValueError(must_be(f"{op}: activation", f"None or {one_of(FUSED)}", activation))
    number(f"{op}: momentum", momentum, minimum=0, maximum=1)
    running_mean = vectors[2]
    for name, t, dtype, shape in (
        ("updates", updates, "int64", (1,)),
        ("rest", rest, running_mean.dtype, (2, *running_mean.shape)),
    ):
        if t is None:
            continue
        if t.dtype != dtype:
            raise TypeError(f"{op}: {name} must be {dtype}, got {t.dtype}")
        if t.shape != shape:
            raise ValueError(f"{op}: {name} must be of shape {shape}, got {t.shape}")
        _check.same_device(op, "x", x, name, t)
    if flag(f"{op}: training", training) and x.size == 0:
        raise ValueError(f"{op}: x must have at least one value per channel in training, got shape {x.shape}")


def counted_arrays(updates: Tensor | None, rest: Tensor | None) -> dict[str, Array | None]:
    """Return what a backend takes of the running statistics, by name."""
    return {
        "updates": None if updates is None else updates.data,
        "rest": None if rest is None else rest.data,
    }


def _like_x(op: str, x: Tensor, name: str, t: Tensor) -> None:
    _check.alike(op, **{"x": x, name: t})
    if t.shape != x.shape:
        raise ValueError(f"{op}: {name} must be of shape {x.shape} as x is, got {t.shape}")


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-6) -> Tensor:
    """Return x normalised over its last axis, scaled and shifted.

        y = gamma * (x - mean) / sqrt(var + eps) + beta, mean and biased variance of each row of C values

    Args:
        x: (..., C), float16, bfloat16 or float32.
        gamma: scale (C,), dtype of x, or float32 with a float16 x.
        beta: shift (C,), dtype of gamma.
        eps: added to the variance; finite, > 0.

    Returns:
        The shape and dtype of x.

    Rounding:
        Mean and variance accumulate as the active `Precision` says; mean and 1 / sqrt(var + eps) are rounded
        to the dtype of gamma, y is computed from them in FP32 registers and rounded once.

    Raises:
        TypeError: an argument is no floating-point Tensor, or the dtypes do not go together.
        ValueError: shapes, devices or eps do not fit.
        UnsupportedPrecision: x or gamma is float32 under a precision with binary16 accumulators.

    Source:
        Ba et al., 2016, arXiv 1607.06450.

    >>> import fp16engine as fe
    >>> x, one, zero = (fe.tensor(v, device="reference") for v in ([[1.0, 3.0]], [1.0, 1.0], [0.0, 0.0]))
    >>> fe.functional.layer_norm(x, one, zero, eps=1e-9).numpy().tolist()
    [[-1.0, 1.0]]
    """
    _arguments("layer_norm", x, eps, gamma=gamma, beta=beta)
    return LayerNorm.apply(x, gamma, beta, eps=float(eps))
