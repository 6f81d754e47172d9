"""Dropout with a counter-based generator."""

from __future__ import annotations

from .. import random
from ..autograd import Array, Function
from ..tensor import Tensor
from . import _check


class Dropout(Function):
    """Keeps seed and counter instead of a mask."""

    def forward(self, x: Array, p: float, seed: int, offset: int) -> Array:
        self.mask = (p, seed, offset)
        return self.backend.dropout(x, p, seed, offset)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.dropout(dy, *self.mask),)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Return x with each element zeroed with probability `p` and the others times 1/(1 - p), rounded once.

    x: any shape. Without `training`, or with p = 0, x itself. The mask follows from `fe.manual_seed` and the
        number of
    elements dropped out before: the same on every device (Philox4x32-10, Salmon et al. 2011).

    Raises:
        TypeError: `x` is no floating-point Tensor.
        ValueError: `p` is outside [0, 1).

    >>> import fp16engine as fe
    >>> fe.functional.dropout(fe.tensor([1.0], device="reference"), 0.5, training=False).item()
    1.0
    """
    _check.floating("dropout", "x", x)
    if not _check.is_number(p) or not 0 <= p < 1:
        raise ValueError(f"dropout: p is {p!r}, a probability in [0, 1) is wanted")
    if not training or p == 0:
        return x
    seed, offset = random.dropout_counter(x.size)
    return Dropout.apply(x, p=float(p), seed=seed, offset=offset)
