"""Table look-up."""

from __future__ import annotations

from ..autograd import Array, Function
from ..tensor import Tensor
from . import _check


class Embedding(Function):
    def forward(self, ids: Array, table: Array) -> Array:
        self.ids, self.rows = ids, table.shape[0]
        return self.backend.embedding(ids, table)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return None, self.backend.embedding_backward(self.ids, dy, self.rows, self.acc)


def embedding(ids: Tensor, table: Tensor) -> Tensor:
    """Return rows of a table.

        y[..., :] = table[ids[...], :]

    Args:
        ids: any shape (...), int64 in [0, R).
        table: (R, D), float16, bfloat16 or float32.

    Returns:
        (..., D), dtype of table.

    Rounding:
        None in the forward pass. A row read more than once gets the sum of its gradients, added one after the
        other in the order of `ids`, in the accumulator of the active `Precision`, and rounded once.

    Raises:
        TypeError: `ids` is no int64 Tensor, or `table` no floating-point Tensor.
        ValueError: an id is out of range, `table` has not two axes, or the devices differ.
        UnsupportedPrecision: table is float32 under a precision with binary16 accumulators.

    >>> import fp16engine as fe
    >>> table = fe.tensor([[1.0, 2.0], [3.0, 4.0]], device="reference")
    >>> fe.functional.embedding(fe.tensor([1], device="reference"), table).numpy().tolist()
    [[3.0, 4.0]]
    """
    _check.floating("embedding", "table", table)
    _check.rank("embedding", "table", table, "R, D")
    _check.indices("embedding", "ids", ids, table.shape[0], "rows")
    _check.same_device("embedding", "ids", ids, "table", table)
    return Embedding.apply(ids, table)
