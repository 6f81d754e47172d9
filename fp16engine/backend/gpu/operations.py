"""What the GPU's kernels do in one piece where the processor takes several steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...block_format import BlockFormat
from ...precision import chunk_terms
from ..base import Array, Pads, Pair
from ..compiled.attention import Attention
from ..compiled.conv import Convolutions
from ..compiled.dropout import Dropout
from ..compiled.embedding import Embeddings, flat_indices
from ..compiled.norm import Norms
from ..compiled.shape import is_basic
from ..heads import parts
from .capture import Recordable

# The longest sequence and the widest head of the attention kernels (csrc/cuda/ops.h).
MOST_ATTENDED = 128


class GpuOperations(Recordable, Norms, Convolutions, Attention, Embeddings, Dropout):
    def _convolve(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        y: Array,
        stride: Pair,
        pads: Pads,
        groups: int,
        acc: str,
        algorithm: str,
    ) -> None:
        if not _depthwise(x, groups, acc):
            super()._convolve(x, w, b, y, stride, pads, groups, acc, algorithm)
            return
        self.native.depthwise_forward(x, w, b, y, *stride, pads, groups, self.half_accumulator(acc, x))

    def _convolve_back(
        self,
        x: Array,
        w: Array,
        dy: Array,
        dx: Array | None,
        dw: Array | None,
        db: Array | None,
        stride: Pair,
        pads: Pads,
        groups: int,
        acc: str,
        algorithm: str,
    ) -> None:
        if not _depthwise(x, groups, acc):
            super()._convolve_back(x, w, dy, dx, dw, db, stride, pads, groups, acc, algorithm)
            return
        half = self.half_accumulator(acc, x)
        self.native.depthwise_backward(x, w, dy, dx, dw, db, *stride, pads, groups, half)

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
        if operand is not None or not _in_one_piece(q, k, acc, heads):
            return super().attention_forward(q, k, v, causal, lengths, acc, operand, heads)
        rows = (q.shape[0], heads or q.shape[1], q.shape[-2])
        queries, keys, _ = parts(q, k, v)
        y, probs = self.empty(queries.shape, q.dtype), self.empty((*rows, keys.shape[-2]), q.dtype)
        self.native.attention_forward(q, k, v, y, probs, causal, lengths, self.half_accumulator(acc, q))
        return y, probs

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
        if operand is not None or not _in_one_piece(q, k, acc, heads):
            return super().attention_backward(q, k, v, probs, dy, acc, operand, heads)
        dq, dk, dv = (None if x is None else self._empty_like(x) for x in (q, k, v))
        self.native.attention_backward(q, k, v, probs, dy, dq, dk, dv, self.half_accumulator(acc, q))
        return dq, dk, dv

    def relu_bias_backward(self, y: Array, dy: Array, acc: str) -> tuple[Array, Array]:
        if self.half_accumulator(acc, dy):
            return super().relu_bias_backward(y, dy, acc)
        dx, db = self._empty_like(dy), self.empty(dy.shape[-1:], dy.dtype)
        self.native.relu_bias_backward(y, dy, dx, db)
        return dx, db

    def relu_add_backward(self, y: Array, dy: Array, pending_grad: Array) -> Array:
        dx = self._empty_like(dy)
        self.native.relu_add_backward(y, dy, pending_grad, dx)
        return dx

    def batch_norm_forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        momentum: float,
        eps: float,
        activation: str | None,
        acc: str,
        residual: Array | None = None,
        addend: Array | None = None,
        updates: Array | None = None,
        rest: Array | None = None,
        joined: Array | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:
        vectors = (gamma, beta, running_mean, running_var)
        if joined is None or self.half_accumulator(acc, x):
            return super().batch_norm_forward(
                x, *vectors, momentum, eps, activation, acc, residual, addend, updates, rest, joined
            )
        s = self.empty((*x.shape[:-1], x.shape[-1] + joined.shape[-1]), x.dtype)
        outputs = y, mean, inv_std = self._empty_like(s), self._empty_like(gamma), self._empty_like(gamma)
        counted = (updates, rest)
        self.native.batch_norm_of_cat_forward(
            x, joined, *vectors, *counted, s, *outputs, momentum, eps, activation or "none"
        )
        return y, mean, inv_std, s

    def batch_norm_backward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        inv_std: Array,
        dy: Array,
        activation: str | None,
        acc: str,
        y: Array | None = None,
        pending_grad: Array | None = None,
        sums: bool = False,
        split: int | None = None,
    ) -> tuple[Array, Array, Array, Array | None, Array | None]:
        saved = (x, gamma, beta, mean, inv_std)
        if split is None or y is not None or sums or self.half_accumulator(acc, x):
            return super().batch_norm_backward(*saved, dy, activation, acc, y, pending_grad, sums, split)
        images, channels = x.shape[:-1], x.shape[-1]
        dx, dr = (self.empty((*images, n), x.dtype) for n in (split, channels - split))
        dgamma, dbeta = self._empty_like(gamma), self._empty_like(beta)
        self.native.batch_norm_of_cat_backward(
            *saved, dy, pending_grad, dx, dr, dgamma, dbeta, activation or "none"
        )
        return dx, dgamma, dbeta, dr, None

    def getitem(self, x: Array, index: Any) -> Array:
        if is_basic(index):
            return super().getitem(x, index)
        return self.embedding(self.from_numpy(flat_indices(x.shape, index)), x.reshape(-1))

    def cat(self, xs: Sequence[Array], axis: int) -> Array:
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        y = self.empty(tuple(shape), xs[0].dtype)
        start = 0
        for x in xs:
            stop = start + x.shape[axis]
            self._assign(y[(slice(None),) * axis + (slice(start, stop),)], x)
            start = stop
        return y

    def dropout(self, x: Array, p: float, seed: int, offset: int) -> Array:
        if self.control is None:
            return super().dropout(x, p, seed, offset)
        y = self._empty_like(x)
        self.native.dropout_counted(x, y, p, seed, offset, self.control)
        return y

    def _round(self, *arguments: Any) -> None:
        if self.control is None:
            super()._round(*arguments)
        else:
            self.native.quantize_counted(*arguments, self.control)

    def _fill(self, x: Array, value: float) -> None:
        with np.errstate(over="ignore"):
            stored = np.array(value).astype(np.dtype(str(x.dtype)))
        self.native.fill(x, int.from_bytes(stored.tobytes(), "little"))

    def _assign(self, y: Array, x: Array) -> None:
        if y.dtype != x.dtype or y.shape != x.shape:
            raise ValueError(f"copy: x must be {y.dtype} {y.shape} as y is, got {x.dtype} {x.shape}")
        self.native.move(self.address(x), self.address(y), y.dtype.itemsize, y.shape, x.strides, y.strides)


def _depthwise(x: Array, groups: int, acc: str) -> bool:
    """Tell whether every group reads one channel; a single channel is left to the library."""
    return 1 < groups == x.shape[3] and not chunk_terms(acc)


def _in_one_piece(q: Array, k: Array | None, acc: str, heads: int | None) -> bool:
    width = q.shape[-1] // ((heads or 1) * (3 if k is None else 1))
    keys = (q if k is None else k).shape[-2]
    return not chunk_terms(acc) and max(q.shape[-2], width, keys) <= MOST_ATTENDED
