"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import functional as F
from ..ops._norm import FUSED
from ..precision import Precision
from ..tensor import Tensor
from ..validate import flag, must_be, number, one_of
from . import init, running
from .module import Module

_SEPARATE: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "tanh": F.tanh}
_ACTIVATIONS = (*FUSED, *_SEPARATE)


class BatchNorm2d(Module):
    """Normalise over all axes but the last, see `functional.batch_norm`.

        y = activation(gamma * (x - mean) / sqrt(var + eps) + beta)

    Args:
        num_features: channels C, the last axis of x.
        momentum: share of the old running statistics that is kept in the long run, in [0, 1]; the first
            updates take more of the batch.
        eps: added to the variance; finite, > 0.
        activation: None, "relu" or "relu6" (fused), "gelu" or "tanh" (an operation of its own).
        scale: False keeps gamma at 1: it is no parameter then.

    Attributes:
        gamma: (C,), ones.
        beta: (C,), zeros.
        running_mean: (C,), zeros.
        running_var: (C,), ones.
        running_std: (C,): the standard deviation, in place of running_var (then None) under a precision with
            float16 statistics in their "native" form. Either form loads the other.
        rest: (2, C): the rounding error of running_mean and running_std, in the native form; else None.
        updates: (1,), int64: how often the running statistics were moved.
        synchronised: what computes y while training where statistics are those of several ranks
            (`Trainer(sync_norm=True)`), else None.

    Call:
        x: (..., C), float16, bfloat16 or float32; the result has the same shape and dtype, rounded once.
        residual: shape and dtype of x, added before the activation; or None.
        addend: shape and dtype of x: normalise x + addend and return both, (sum, y); or None.
        joined: (..., D), dtype of x: normalise x and these channels side by side, C in all, and return both,
            (channels, y); or None.

    Raises:
        ValueError: num_features is no integer >= 1, or the activation is unknown; at the call, momentum, eps
            or a shape does not fit, or more than one of residual, addend and joined is given.

    Source:
        Ioffe and Szegedy, 2015, arXiv 1502.03167; `keras.layers.BatchNormalization` (momentum, defaults).

    >>> import fp16engine as fe
    >>> fe.nn.BatchNorm2d(3, activation="relu")
    BatchNorm2d(3, momentum=0.99, eps=0.001, activation='relu')
    """

    buffers = ("gamma", "running_mean", "running_var", "running_std", "rest", "updates")
    statistics = ("gamma", "beta", "running_mean", "running_var", "running_std", "rest")

    def __init__(
        self,
        num_features: int,
        momentum: float = 0.99,
        eps: float = 1e-3,
        activation: str | None = None,
        scale: bool = True,
    ) -> None:
        super().__init__()
        init.positive("BatchNorm2d", num_features=num_features)
        if activation not in (None, *_ACTIVATIONS):
            raise ValueError(
                must_be("BatchNorm2d: activation", f"None or {one_of(_ACTIVATIONS)}", activation)
            )
        self.momentum = number("BatchNorm2d: momentum", momentum, minimum=0, maximum=1)
        self.eps = number("BatchNorm2d: eps", eps, above=0)
        self.activation = activation
        gamma = init.constant((num_features,), 1.0)
        self.gamma: Tensor = gamma if flag("BatchNorm2d: scale", scale) else gamma.detach()
        self.beta = init.constant((num_features,), 0.0)
        self.running_mean = init.constant((num_features,), 0.0).detach()
        self.running_var: Tensor | None = init.constant((num_features,), 1.0).detach()
        self.running_std: Tensor | None = None
        self.rest: Tensor | None = None
        self.updates = Tensor(np.zeros(1, np.int64), self.gamma.device)
        self.synchronised: Callable[[BatchNorm2d, Tensor, Tensor | None, str | None], Tensor] | None = None

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None = None,
        addend: Tensor | None = None,
        joined: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        if residual is not None and addend is not None:
            raise ValueError("BatchNorm2d: addend must be None with a residual, got both")
        if joined is not None and (residual is not None or addend is not None):
            raise ValueError("BatchNorm2d: joined must be None with a residual or an addend, got both")
        fused = self.activation if self.activation in FUSED else None
        if self.training and self.synchronised is not None:
            s = x if addend is None else x + addend
            y = self._activated(self.synchronised(self, s, residual, fused), fused)
            return y if addend is None else (s, y)
        spread = self.running_var if self.running_std is None else self.running_std
        assert spread is not None
        vectors = (self.gamma, self.beta, self.running_mean, spread)
        settings = (self.training, self.momentum, self.eps, fused)
        counted = (self.updates, self.rest)
        if addend is not None:
            s, y = F.batch_norm_of_sum(x, addend, *vectors, *settings, *counted)
            return s, self._activated(y, fused)
        if joined is not None:
            s, y = F.batch_norm_of_cat(x, joined, *vectors, *settings, *counted)
            return s, self._activated(y, fused)
        return self._activated(F.batch_norm(x, *vectors, *settings, residual, *counted), fused)

    def _take_form(self, policy: Precision) -> None:
        native = policy.native_statistics
        if native == (self.rest is not None):
            return
        found = {name: value.numpy() for name, value in self._own_tensors() if name in self.buffers}
        for name, values in running.converted(found, native, policy.statistics).items():
            setattr(self, name, Tensor(values, self.gamma.device))
        self.running_var, self.running_std, self.rest = (
            getattr(self, name) if name in running.names(native) else None
            for name in ("running_var", "running_std", "rest")
        )

    def _own_form(self, prefix: str, state: dict[str, Any]) -> dict[str, Any]:
        return running.in_form(prefix, state, native=self.rest is not None)

    def _activated(self, y: Tensor, fused: str | None) -> Tensor:
        return y if self.activation in (None, fused) else _SEPARATE[self.activation](y)

    def extra_repr(self) -> str:
        activation = f", activation={self.activation!r}" if self.activation else ""
        scale = "" if self.gamma.requires_grad else ", scale=False"
        return f"{self.gamma.shape[0]}, momentum={self.momentum}, eps={self.eps}{activation}{scale}"


class LayerNorm(Module):
    """Normalise over the last axis, see `functional.layer_norm`.

        y = gamma * (x - mean) / sqrt(var + eps) + beta

    Args:
        dim: size C of the last axis of x.
        eps: added to the variance; finite, > 0.

    Attributes:
        gamma: (C,), ones.
        beta: (C,), zeros.

    Call:
        x: (..., C), float16, bfloat16 or float32; the result has the same shape and dtype, rounded once.

    Raises:
        ValueError: dim is no integer >= 1; at the call, eps or the shape does not fit.

    Source:
        Ba et al., 2016, arXiv 1607.06450.

    >>> import fp16engine as fe
    >>> fe.nn.LayerNorm(64)
    LayerNorm(64, eps=1e-06)
    """

    statistics = ("gamma", "beta")

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        init.positive("LayerNorm", dim=dim)
        self.eps = number("LayerNorm: eps", eps, above=0)
        self.gamma = init.constant((dim,), 1.0)
        self.beta = init.constant((dim,), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gamma, self.beta, self.eps)

    def extra_repr(self) -> str:
        return f"{self.gamma.shape[0]}, eps={self.eps}"


class GroupNorm(Module):
    """Normalise over the pixels and the channels of each group, see `functional.group_norm`.

        y = gamma * (x - mean) / sqrt(var + eps) + beta

    Args:
        num_groups: a divisor of `num_channels`.
        num_channels: channels C, the last axis of x.
        eps: added to the variance; finite, > 0.

    Attributes:
        gamma: (C,), ones.
        beta: (C,), zeros.

    Call:
        x: (N, ..., C), dtype of gamma, float16, bfloat16 or float32; the result has the same shape and dtype,
            rounded three times.

    Raises:
        ValueError: num_groups is no divisor of num_channels; at the call, the shape does not fit.
        TypeError: a number is of the wrong kind.

    Source:
        Wu and He, 2018, arXiv 1803.08494; `torch.nn.GroupNorm` (arguments).

    >>> import fp16engine as fe
    >>> fe.nn.GroupNorm(8, 64)
    GroupNorm(8, 64, eps=1e-05)
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        init.positive("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise ValueError(must_be("GroupNorm: num_groups", f"a divisor of {num_channels}", num_groups))
        self.groups, self.eps = num_groups, number("GroupNorm: eps", eps, above=0)
        self.gamma = init.constant((num_channels,), 1.0)
        self.beta = init.constant((num_channels,), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.groups, self.gamma, self.beta, self.eps)

    def extra_repr(self) -> str:
        return f"{self.groups}, {self.gamma.shape[0]}, eps={self.eps}"
