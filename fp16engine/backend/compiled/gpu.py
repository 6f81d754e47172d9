"""What the GPU's kernels do in one piece where the processor takes several steps."""

from __future__ import annotations

from ..base import Array
from .attention import Attention

# The longest sequence and the widest head of the attention kernels (csrc/cuda/ops.h).
MOST_ATTENDED = 128


class GpuOperations(Attention):
    def attention_forward(
        self, q: Array, k: Array, v: Array, causal: bool, lengths: Array | None, acc: str
    ) -> tuple[Array, Array]:
        if not _in_one_piece(q, k):
            return super().attention_forward(q, k, v, causal, lengths, acc)
        y, probs = self._empty_like(q), self.empty((*q.shape[:3], k.shape[2]), q.dtype)
        self.native.attention_forward(q, k, v, y, probs, causal, lengths, self.half_accumulator(acc, q))
        return y, probs

    def attention_backward(
        self, q: Array, k: Array, v: Array, probs: Array, dy: Array, acc: str
    ) -> tuple[Array, Array, Array]:
        if not _in_one_piece(q, k):
            return super().attention_backward(q, k, v, probs, dy, acc)
        dq, dk, dv = self._empty_like(q), self._empty_like(k), self._empty_like(v)
        self.native.attention_backward(q, k, v, probs, dy, dq, dk, dv, self.half_accumulator(acc, q))
        return dq, dk, dv


def _in_one_piece(q: Array, k: Array) -> bool:
    return max(q.shape[2], q.shape[3], k.shape[2]) <= MOST_ATTENDED
