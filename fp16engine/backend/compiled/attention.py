"""Scaled dot-product attention of matrix products and the softmax; scores and probabilities are stored."""

from __future__ import annotations

from collections.abc import Callable

from ...block_format import BlockFormat
from ..base import Array
from ..heads import apart, joined, parts
from .elementwise import Elementwise
from .linear import Linear


class Attention(Linear, Elementwise):
    def attention_forward(
        self,
        q: Array,
        k: Array | None,
        v: Array | None,
        causal: bool,
        lengths: Array | None,
        acc: str,
        operand: BlockFormat | None = None,
        heads: int | None = None,
    ) -> tuple[Array, Array]:
        if heads is not None:
            q, k, v = (apart(self.transpose, x, heads) for x in parts(q, k, v))
            y, probs = self.attention_forward(q, k, v, causal, lengths, acc, operand)
            return joined(self.transpose, y), probs
        product = self._products_in(operand)
        scores = product(self._scaled(q), k, False, True, acc)
        # In place: a row is read before it is written. A causal row i reads its first i + 1 scores only.
        causal_rows = q.shape[2] if causal else 0
        self.native.softmax(scores, scores, causal_rows, lengths, self.half_accumulator(acc, q))
        return product(scores, v, False, False, acc), scores

    def attention_backward(
        self,
        q: Array,
        k: Array | None,
        v: Array | None,
        probs: Array,
        dy: Array,
        acc: str,
        operand: BlockFormat | None = None,
        heads: int | None = None,
    ) -> tuple[Array, Array | None, Array | None]:
        if heads is not None:
            packed = k is None
            q, k, v, dy = (apart(self.transpose, x, heads) for x in (*parts(q, k, v), dy))
            gradients = self.attention_backward(q, k, v, probs, dy, acc, operand)
            dq, dk, dv = (joined(self.transpose, x) for x in gradients)
            return (self.cat((dq, dk, dv), 2), None, None) if packed else (dq, dk, dv)
        half = self.half_accumulator(acc, q)
        product = self._products_in(operand)
        ds = product(dy, v, False, True, acc)
        self.native.softmax_backward(probs, ds, ds, half)
        dq = self._empty_like(q)
        product(ds, k, False, False, acc, dq, q.shape[-1] ** -0.5)
        dk = product(ds, self._scaled(q), True, False, acc)
        return dq, dk, product(probs, dy, True, False, acc)

    def _products_in(self, operand: BlockFormat | None) -> Callable[..., Array]:
        """Matrix products of one call whose operands are rounded in turn; `out` takes one times `scale`."""
        operands = None if operand is None else self._operands(operand)

        def product(
            a: Array,
            b: Array,
            transpose_a: bool,
            transpose_b: bool,
            acc: str,
            out: Array = None,
            scale: float = 1.0,
        ) -> Array:
            if operands is not None:
                a, b = operands.of_matmul(a, b, transpose_a, transpose_b)
            if out is None:
                return self._product(a, b, transpose_a, transpose_b, acc)
            self.gemm.scaled_product(a, b, out, scale, *self.compute(acc, a))
            return out

        return product

    def _scaled(self, q: Array) -> Array:
        return self.binary("mul", q, q.shape[-1] ** -0.5)
