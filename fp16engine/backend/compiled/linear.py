"""Matrix products."""

from __future__ import annotations

from ...block_format import BlockFormat
from ..base import Array, Needs
from .quantize import Quantizer
from .reduce import Reductions


class Linear(Reductions, Quantizer):
    def matmul(
        self,
        a: Array,
        b: Array,
        transpose_a: bool,
        transpose_b: bool,
        acc: str,
        operand: BlockFormat | None = None,
    ) -> Array:
        if operand is not None:
            a, b = self._operands(operand).of_matmul(a, b, transpose_a, transpose_b)
        return self._product(a, b, transpose_a, transpose_b, acc)

    def _product(self, a: Array, b: Array, transpose_a: bool, transpose_b: bool, acc: str) -> Array:
        rows, columns = a.shape[-1 if transpose_a else -2], b.shape[-2 if transpose_b else -1]
        c = self.empty((*a.shape[:-2], rows, columns), a.dtype)
        self.gemm.matmul(a, b, None, c, transpose_a, transpose_b, *self.compute(acc, a))
        return c

    def linear_forward(
        self, x: Array, w: Array, b: Array | None, acc: str, operand: BlockFormat | None = None
    ) -> Array:
        if operand is not None:
            x, w = self._operands(operand).of_matmul(x, w, False, True)
        y = self.empty((x.shape[0], w.shape[0]), x.dtype)
        self.gemm.matmul(x, w, b, y, False, True, *self.compute(acc, x))
        return y

    def linear_backward(
        self, x: Array, w: Array, dy: Array, needs: Needs, acc: str, operand: BlockFormat | None = None
    ) -> tuple[Array | None, Array | None, Array | None]:
        left, right, upper, lower = dy, w, dy, x
        if operand is not None:
            operands = self._operands(operand)
            if needs[0]:
                left, right = operands.of_matmul(dy, w, False, False)
            if needs[1]:
                upper, lower = operands.of_matmul(dy, x, True, False)
        dx = self._product(left, right, False, False, acc) if needs[0] else None
        if operand is None and needs[1]:
            dw, db = self._empty_like(w), self.empty((w.shape[0],), w.dtype) if needs[2] else None
            self.gemm.linear_weight_gradient(x, dy, dw, db, *self.compute(acc, x))
            return dx, dw, db
        dw = self._product(upper, lower, True, False, acc) if needs[1] else None
        # the sum of one array, which the format leaves as it is
        db = self.sum(dy, (0,), acc).reshape(-1) if needs[2] else None
        return dx, dw, db
