"""Scaled dot-product attention of matrix products and the softmax; scores and probabilities are stored."""

from __future__ import annotations

from ..base import Array
from .dot import DotProducts
from .elementwise import Elementwise


class Attention(DotProducts, Elementwise):
    def attention_forward(
        self, q: Array, k: Array, v: Array, causal: bool, lengths: Array | None, acc: str
    ) -> tuple[Array, Array]:
        scores = self.matmul(self._scaled(q), k, False, True, acc)
        # In place: a row is read before it is written. A causal row i reads its first i + 1 scores only.
        causal_rows = q.shape[2] if causal else 0
        self.native.softmax(scores, scores, causal_rows, lengths, self.half_accumulator(acc, q))
        return self.matmul(scores, v, False, False, acc), scores

    def attention_backward(
        self, q: Array, k: Array, v: Array, probs: Array, dy: Array, acc: str
    ) -> tuple[Array, Array, Array]:
        half = self.half_accumulator(acc, q)
        ds = self.matmul(dy, v, False, True, acc)
        self.native.softmax_backward(probs, ds, ds, half)
        dq = self._empty_like(q)
        self.products.scaled_product(ds, k, dq, q.shape[-1] ** -0.5, *self.compute(acc, q))
        dk = self.matmul(ds, self._scaled(q), True, False, acc)
        return dq, dk, self.matmul(probs, dy, True, False, acc)

    def _scaled(self, q: Array) -> Array:
        return self.binary("mul", q, q.shape[-1] ** -0.5)
