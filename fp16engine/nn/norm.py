"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Callable

from .. import functional as F
from ..tensor import Tensor
from . import init
from .module import Module

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "tanh": F.tanh,
}


class BatchNorm2d(Module):
    """Batch normalisation over all axes but the last, see `functional.batch_norm`.

    gamma: (num_features,), ones; beta, running_mean: zeros; running_var: ones. `momentum` is the share of the
        old
    running statistics that is kept (Keras' meaning and defaults). `activation` follows: "relu" is fused,
    "relu6", "gelu" and "tanh" are operations of their own.

    norm(x, residual) adds a residual before the activation; norm(x, addend=b) normalises x + b and returns
    the sum, too: (sum, y).

    >>> import fp16engine as fe
    >>> fe.nn.BatchNorm2d(3, activation="relu")
    BatchNorm2d(3, momentum=0.99, eps=0.001, activation='relu')
    """

    buffers = ("running_mean", "running_var")
    statistics = ("gamma", "beta", "running_mean", "running_var")

    def __init__(
        self, num_features: int, momentum: float = 0.99, eps: float = 1e-3, activation: str | None = None
    ) -> None:
        super().__init__()
        init.positive("BatchNorm2d", num_features=num_features)
        if activation not in (None, *_ACTIVATIONS):
            names = ", ".join(_ACTIVATIONS)
            raise ValueError(f"BatchNorm2d: activation is {activation!r}, None or one of {names} is wanted")
        self.momentum = momentum
        self.eps = eps
        self.activation = activation
        self.gamma = init.constant((num_features,), 1.0)
        self.beta = init.constant((num_features,), 0.0)
        self.running_mean = init.constant((num_features,), 0.0).detach()
        self.running_var = init.constant((num_features,), 1.0).detach()

    def forward(
        self, x: Tensor, residual: Tensor | None = None, addend: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        if residual is not None and addend is not None:
            raise ValueError("BatchNorm2d: residual and addend given, one of them is wanted")
        fused = self.activation if self.activation == "relu" else None
        vectors = (self.gamma, self.beta, self.running_mean, self.running_var)
        settings = (self.training, self.momentum, self.eps, fused)
        if addend is not None:
            s, y = F.batch_norm_of_sum(x, addend, *vectors, *settings)
            return s, self._activated(y, fused)
        return self._activated(F.batch_norm(x, *vectors, *settings, residual), fused)

    def _activated(self, y: Tensor, fused: str | None) -> Tensor:
        return y if self.activation in (None, fused) else _ACTIVATIONS[self.activation](y)

    def extra_repr(self) -> str:
        activation = f", activation={self.activation!r}" if self.activation else ""
        return f"{self.gamma.shape[0]}, momentum={self.momentum}, eps={self.eps}{activation}"


class LayerNorm(Module):
    """Normalisation over the last axis, see `functional.layer_norm`. gamma: (dim,), ones; beta: zeros.

    >>> import fp16engine as fe
    >>> fe.nn.LayerNorm(64)
    LayerNorm(64, eps=1e-06)
    """

    statistics = ("gamma", "beta")

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        init.positive("LayerNorm", dim=dim)
        self.eps = eps
        self.gamma = init.constant((dim,), 1.0)
        self.beta = init.constant((dim,), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gamma, self.beta, self.eps)

    def extra_repr(self) -> str:
        return f"{self.gamma.shape[0]}, eps={self.eps}"
