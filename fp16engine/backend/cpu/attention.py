"""Scaled dot-product attention of matrix products and the softmax; scores and probabilities are stored."""

from __future__ import annotations

import numpy as np

from .native import empty_like, half_accumulator, native


class Attention:
    def attention_forward(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool, acc: str
    ) -> tuple[np.ndarray, np.ndarray]:
        scores = self.matmul(self._scaled(q), k, False, True, acc)  # type: ignore[attr-defined]
        # In place: a row is read before it is written. A causal row i reads its first i + 1 scores only.
        native.softmax(scores, scores, q.shape[2] if causal else 0, half_accumulator(acc, q))
        return self.matmul(scores, v, False, False, acc), scores  # type: ignore[attr-defined]

    def attention_backward(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, probs: np.ndarray, dy: np.ndarray, acc: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        half = half_accumulator(acc, q)
        ds = self.matmul(dy, v, False, True, acc)  # type: ignore[attr-defined]
        native.softmax_backward(probs, ds, ds, half)
        dq = empty_like(q)
        native.scaled_product(ds, k, dq, q.shape[-1] ** -0.5, half)
        dk = self.matmul(ds, self._scaled(q), True, False, acc)  # type: ignore[attr-defined]
        return dq, dk, self.matmul(probs, dy, True, False, acc)  # type: ignore[attr-defined]

    def _scaled(self, q: np.ndarray) -> np.ndarray:
        return self.binary("mul", q, q.shape[-1] ** -0.5)  # type: ignore[attr-defined]
