"""Layers without parameters."""

from __future__ import annotations

from .. import functional as F
from ..tensor import Tensor
from ..validate import number
from .module import Module


class ReLU(Module):
    """Replace negative values by 0, see `functional.relu`.

        y = max(x, 0)

    Call:
        x: any shape, float16 or float32; the result has the same. Not rounded.

    >>> import fp16engine as fe
    >>> fe.nn.ReLU()(fe.tensor([-1.0, 2.0], device="reference")).numpy().tolist()
    [0.0, 2.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class ReLU6(Module):
    """Keep values within the bounds 0 and 6, see `functional.relu6`.

        y = min(max(x, 0), 6)

    Call:
        x: any shape, float16 or float32; the result has the same. Not rounded.

    >>> import fp16engine as fe
    >>> fe.nn.ReLU6()(fe.tensor([-1.0, 7.0], device="reference")).numpy().tolist()
    [0.0, 6.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x)


class GELU(Module):
    """Apply the Gaussian error linear unit, see `functional.gelu`.

        y = x * Phi(x)

    Call:
        x: any shape, float16 or float32; the result has the same, rounded once.

    >>> import fp16engine as fe
    >>> round(fe.nn.GELU()(fe.tensor([1.0], device="reference")).item(), 4)
    0.8413
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x)


class Tanh(Module):
    """Apply the hyperbolic tangent, see `functional.tanh`.

    Call:
        x: any shape, float16 or float32; the result has the same, rounded once.

    >>> import fp16engine as fe
    >>> fe.nn.Tanh()(fe.tensor([0.0, 10.0], "float16", "reference")).numpy().tolist()
    [0.0, 1.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Flatten(Module):
    """Put all axes but the first in one, see `functional.flatten`.

    Call:
        x: (N, ...), any dtype; the result is (N, product of the other sizes), not rounded.

    >>> import fp16engine as fe
    >>> fe.nn.Flatten()(fe.tensor([[[1.0, 2.0], [3.0, 4.0]]], device="reference")).shape
    (1, 4)
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.flatten(x)


class Dropout(Module):
    """Drop elements with probability `p` in training and scale the others, see `functional.dropout`.

    Args:
        p: probability in [0, 1) that an element is dropped.

    Call:
        x: any shape, float16 or float32; the result has the same, rounded once; in evaluation, x itself.

    Raises:
        ValueError: `p` is outside [0, 1).

    Source:
        Srivastava et al., 2014.

    >>> import fp16engine as fe
    >>> fe.nn.Dropout(0.5).eval()(fe.tensor([1.0], device="reference")).item()
    1.0
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        number("Dropout: p", p, minimum=0, below=1)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
