"""Dropout with a counter-based generator."""

from __future__ import annotations

from .. import random
from ..autograd import Array, Function
from ..tensor import Tensor
from ..validate import flag, number
from . import _check


class Dropout(Function):
    """Keeps seed and counter instead of a mask."""

    def forward(self, x: Array, p: float, seed: int, offset: int) -> Array:
        self.mask = (p, seed, offset)
        return self.backend.dropout(x, p, seed, offset)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (self.backend.dropout(dy, *self.mask),)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Return x with each element set to zero with probability `p`, and the others scaled up.

        y[i] = x[i] / (1 - p) with probability 1 - p, else 0

    Args:
        x: any shape, float16, bfloat16 or float32.
        p: probability in [0, 1) that an element is dropped.
        training: False returns x itself, as does p = 0.

    Returns:
        The shape and dtype of x.

    Rounding:
        x * (1 / (1 - p)) is rounded once; so is the gradient, which is dropped out the same way.

    The mask depends on `fe.manual_seed` and on how many elements were dropped out before, not on the device:
    element i takes word i % 4 of Philox4x32-10 at counter offset + i // 4. No mask is stored.

    Raises:
        TypeError: `x` is no floating-point Tensor.
        ValueError: `p` is no number in [0, 1).
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        Srivastava et al., 2014 (inverted form, as in Keras and PyTorch); Salmon et al., 2011 (Philox).

    >>> import fp16engine as fe
    >>> fe.manual_seed(0)
    >>> x = fe.tensor([1.0, 1.0, 1.0, 1.0], "float16", "reference")
    >>> fe.functional.dropout(x, 0.5, training=True).numpy().tolist()
    [0.0, 2.0, 2.0, 2.0]
    >>> fe.functional.dropout(x, 0.5, training=False) is x
    True
    """
    _check.floating("dropout", "x", x)
    number("dropout: p", p, minimum=0, below=1)
    if not flag("dropout: training", training) or p == 0:
        return x
    seed, offset = random.dropout_counter(x.size)
    return Dropout.apply(x, p=float(p), seed=seed, offset=offset)
