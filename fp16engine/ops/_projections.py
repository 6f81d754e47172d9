"""Several affine maps of one input, as one product."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..autograd import Array, Function
from ..backend.neighbours import as_one
from ..tensor import Tensor
from ..validate import listed, must_be
from . import _check
from ._operand import drawn
from ._shape import reshape


class Projections(Function):
    multiplies = True

    def forward(self, x: Array, *parts: Array | None) -> Array:
        """parts: the weights, then as many biases."""
        count = len(parts) // 2
        self.rows = [w.shape[0] for w in parts[:count] if w is not None]
        w, b = self._joined(parts[:count]), self._joined(parts[count:])
        self.x, self.w = x, w
        return self.backend.linear_forward(x, w, b, self.acc, drawn(self.operand, 2, x, w))

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        count = len(self.rows)
        ways = self.needs[0], any(self.needs[1 : count + 1]), any(self.needs[count + 1 :])
        operand = drawn(self.operand, 4, self.x, self.w, dy)
        dx, dw, db = self.backend.linear_backward(self.x, self.w, dy, ways, self.acc, operand)
        return dx, *self._parts(dw), *self._parts(db)

    def _joined(self, arrays: Sequence[Array | None]) -> Array | None:
        """One array, on the memory of the others where they lie one after another, else a copy."""
        if arrays[0] is None:
            return None
        whole = as_one(arrays)
        return self.backend.cat(arrays, 0) if whole is None else whole

    def _parts(self, whole: Array | None) -> list[Array | None]:
        """Views of the gradient of what was joined."""
        ends = [sum(self.rows[: i + 1]) for i in range(len(self.rows))]
        spans = zip(ends, self.rows, strict=True)
        return [None if whole is None else whole[end - rows : end] for end, rows in spans]


def projections(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor] | None = None) -> Tensor:
    """Return several affine maps of the last axis of x side by side, from one product.

        y = cat([x @ w.T + b for w, b in zip(weights, biases)], axis=-1)

    Args:
        x: (..., in), float16, bfloat16 or float32.
        weights: (out, in) each, with an `out` of its own, dtype of x; at least one. Where they lie one after
            another in memory, they are not copied.
        biases: (out,) each, dtype of x, one per weight, or None.

    Returns:
        (..., sum of all out), dtype of x.

    Rounding:
        That of `linear` with the weights one below the other: dx is one sum over all of them, rounded once;
        blocks of a block format may hold numbers of two weights.

    Raises:
        TypeError: an argument is no floating-point Tensor, or the dtypes differ.
        ValueError: the shapes do not fit, the devices differ, or there is no weight.
        UnsupportedPrecision: the active precision cannot multiply tensors of this dtype on this device.

    >>> import fp16engine as fe
    >>> x, w = (fe.tensor(v, device="reference") for v in ([[1.0, 2.0]], [[3.0, 4.0]]))
    >>> fe.functional.projections(x, [w, w]).numpy().tolist()
    [[11.0, 11.0]]
    """
    matrices = listed("projections: weights", weights, "a sequence of Tensors")
    vectors = (
        [None] * len(matrices)
        if biases is None
        else listed("projections: biases", biases, "a sequence of Tensors or None")
    )
    if not matrices or len(vectors) != len(matrices):
        raise ValueError(
            must_be("projections: weights", "one or more, with a bias each or none", len(matrices))
        )
    for w, b in zip(matrices, vectors, strict=True):
        _check.alike("projections", "bias", x=x, weight=w, bias=b)
        _check.rank("projections", "weight", w, "out, in")
        if x.ndim == 0 or x.shape[-1] != w.shape[1]:
            raise ValueError(
                f"projections: x must be of shape (..., {w.shape[1]}) for a weight (out, in) of shape "
                f"{w.shape}, got {x.shape}"
            )
        _check.vector("projections", "bias", b, w.shape[0], "one per output")
    rows = x if x.ndim == 2 else reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    y = Projections.apply(rows, *matrices, *vectors)
    return y if x.ndim == 2 else reshape(y, (*x.shape[:-1], y.shape[1]))
