"""What the GPU's kernels do in one piece where the processor takes several steps."""

from __future__ import annotations

from ..base import Array, Needs, Pads, Pair
from .attention import Attention

# The longest sequence and the widest head of the attention kernels (csrc/cuda/ops.h).
MOST_ATTENDED = 128


class GpuOperations(Attention):
    def conv2d_forward(
        self, x: Array, w: Array, b: Array | None, stride: Pair, pads: Pads, groups: int, acc: str
    ) -> Array:
        if not _depthwise(x, groups):
            return super().conv2d_forward(x, w, b, stride, pads, groups, acc)
        y = self.empty(self._conv2d_shape(x, w, stride, pads), x.dtype)
        self.native.depthwise_forward(x, w, b, y, *stride, pads, groups, self.half_accumulator(acc, x))
        return y

    def conv2d_backward(
        self,
        x: Array,
        w: Array,
        dy: Array,
        stride: Pair,
        pads: Pads,
        groups: int,
        needs: Needs,
        acc: str,
    ) -> tuple[Array | None, Array | None, Array | None]:
        if not _depthwise(x, groups):
            return super().conv2d_backward(x, w, dy, stride, pads, groups, needs, acc)
        dx, dw, db = self._conv2d_gradients(x, w, needs)
        half = self.half_accumulator(acc, x)
        self.native.depthwise_backward(x, w, dy, dx, dw, db, *stride, pads, groups, half)
        return dx, dw, db

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


def _depthwise(x: Array, groups: int) -> bool:
    """Tell whether every group reads one channel; a single channel is left to the library."""
    return 1 < groups == x.shape[3]


def _in_one_piece(q: Array, k: Array) -> bool:
    return max(q.shape[2], q.shape[3], k.shape[2]) <= MOST_ATTENDED
