"""Scaled dot-product attention of matrix products and the softmax; scores and probabilities are stored."""

from __future__ import annotations

from collections.abc import Callable

from ...block_format import BlockFormat
from ..base import Array
from .elementwise import Elementwise
from .linear import Linear


class Attention(Linear, Elementwise):
    def attention_forward(
        self,
        q: Array,
        k: Array,
        v: Array,
        causal: bool,
        lengths: Array | None,
        acc: str,
        operand: BlockFormat | None = None,
        heads: int | None = None,
    ) -> tuple[Array, Array]:
        if heads is not None:
            q, k, v = (self._split(x, heads) for x in (q, k, v))
            y, probs = self.attention_forward(q, k, v, causal, lengths, acc, operand)
            return self._joined(y), probs
        product = self._products_in(operand)
        scores = product(self._scaled(q), k, False, True, acc)
        # In place: a row is read before it is written. A causal row i reads its first i + 1 scores only.
        causal_rows = q.shape[2] if causal else 0
        self.native.softmax(scores, scores, causal_rows, lengths, self.half_accumulator(acc, q))
        return product(scores, v, False, False, acc), scores

    def attention_backward(
        self,
        q: Array,
        k: Array,
        v: Array,
        probs: Array,
        dy: Array,
        acc: str,
        operand: BlockFormat | None = None,
        heads: int | None = None,
    ) -> tuple[Array, Array, Array]:
        if heads is not None:
            q, k, v, dy = (self._split(x, heads) for x in (q, k, v, dy))
            dq, dk, dv = map(self._joined, self.attention_backward(q, k, v, probs, dy, acc, operand))
            return dq, dk, dv
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

    def _split(self, x: Array, heads: int) -> Array:
        """(B, S, heads * D) -> (B, heads, S, D)"""
        b, s, width = x.shape
        return self.transpose(x.reshape(b, s, heads, width // heads), (0, 2, 1, 3))

    def _joined(self, x: Array) -> Array:
        """(B, heads, S, D) -> (B, S, heads * D)"""
        b, heads, s, width = x.shape
        return self.transpose(x, (0, 2, 1, 3)).reshape(b, s, heads * width)

    def _scaled(self, q: Array) -> Array:
        return self.binary("mul", q, q.shape[-1] ** -0.5)
