"""Layers without parameters."""

from __future__ import annotations

from .. import functional as F
from ..tensor import Tensor
from .module import Module


class ReLU(Module):
    """max(x, 0), see `functional.relu`."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class ReLU6(Module):
    """min(max(x, 0), 6), see `functional.relu6`."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x)


class GELU(Module):
    """x * Phi(x), see `functional.gelu`."""

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x)


class Tanh(Module):
    """Hyperbolic tangent, see `functional.tanh`."""

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Flatten(Module):
    """(N, ...) -> (N, product of the rest), see `functional.flatten`."""

    def forward(self, x: Tensor) -> Tensor:
        return F.flatten(x)


class Dropout(Module):
    """In training, zero each element with probability `p` and scale the rest, see `functional.dropout`.

    >>> import fp16engine as fe
    >>> fe.nn.Dropout(0.5).eval()(fe.tensor([1.0], device="reference")).item()
    1.0
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p is {p!r}, a probability in [0, 1) is wanted")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
