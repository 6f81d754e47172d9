"""Scaled dot-product attention."""

from __future__ import annotations

from typing import Any

from ..autograd import Array, Function
from ..tensor import Tensor
from ..validate import flag, integer, must_be
from . import _check
from ._operand import drawn


class Attention(Function):
    multiplies = True

    def forward(
        self, q: Array, k: Array, v: Array, lengths: Array | None, causal: bool, heads: int | None
    ) -> Array:
        # what the backend does not read as it lies is taken apart once, for the way back too
        self.apart = heads is not None and not self.backend.capabilities.attention_by_heads
        self.heads = None if self.apart else heads
        if heads is not None and self.apart:
            q, k, v = (_split(self.backend, x, heads) for x in (q, k, v))
        rows = q.shape[0] * (self.heads or q.shape[1]) * q.shape[-2]
        operand = drawn(self.operand, 4, q, k, v, largest=rows * k.shape[-2])
        y, probs = self.backend.attention_forward(q, k, v, causal, lengths, self.acc, operand, self.heads)
        self.saved = (q, k, v, probs)
        return _joined(self.backend, y) if self.apart else y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        dy = _split(self.backend, dy, self.saved[0].shape[1]) if self.apart else dy
        operand = drawn(self.operand, 8, *self.saved, dy)
        # a masked probability is 0 and makes its score's gradient 0: the mask is not needed again
        gradients = self.backend.attention_backward(*self.saved, dy, self.acc, operand, self.heads)
        return (*(_joined(self.backend, x) if self.apart else x for x in gradients), None)


def _split(backend: Any, x: Array, heads: int) -> Array:
    """(B, S, heads * D) -> (B, heads, S, D)"""
    b, s, width = x.shape
    return backend.transpose(x.reshape(b, s, heads, width // heads), (0, 2, 1, 3))


def _joined(backend: Any, x: Array) -> Array:
    """(B, heads, S, D) -> (B, S, heads * D)"""
    b, heads, s, width = x.shape
    return backend.transpose(x, (0, 2, 1, 3)).reshape(b, s, heads * width)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    key_lengths: Tensor | None = None,
    heads: int | None = None,
) -> Tensor:
    """Return scaled dot-product attention, head by head.

        y = softmax(q @ k.T / sqrt(D)) @ v

    Args:
        q: queries (B, H, S, D), float16, bfloat16 or float32.
        k: keys (B, H, T, D), dtype of q; T and D at least 1.
        v: values (B, H, T, D), dtype of q.
        causal: let query i read the keys 0 to i only; needs S = T.
        key_lengths: (B,), int64 in [0, T], or None for T. The keys of item b from key_lengths[b] on are
            padding: they are not read, so no number stands for minus infinity. A query without a key gives 0.
        heads: number H of heads that lie side by side, in q (B, S, H * D), k and v (B, T, H * D); None for
            the four axes above.

    Returns:
        The shape and dtype of q.

    Rounding:
        qs = q * D ** -0.5, the scores qs @ k.T, the probabilities and y are each rounded once to the dtype of
        q and stored. q is scaled before the product, so that binary16 scores overflow sqrt(D) times later.
        Both products and the softmax's sum accumulate as the active `Precision` says.

    Raises:
        TypeError: an argument is no floating-point Tensor, the dtypes differ, or key_lengths is not int64.
        ValueError: the shapes do not fit, the devices differ, or a length is outside [0, T].
        UnsupportedPrecision: the active precision cannot multiply tensors of this dtype on this device.

    Source:
        Vaswani et al., 2017, arXiv 1706.03762.

    >>> import fp16engine as fe
    >>> x = fe.tensor([[[[1.0, 0.0], [0.0, 1.0]]]], device="reference")
    >>> fe.functional.attention(x, x, x, causal=True).numpy()[0, 0, 0].tolist()
    [1.0, 0.0]
    """
    _check.alike("attention", q=q, k=k, v=v)
    for name, t in (("q", q), ("k", k), ("v", v)):
        _check.rank("attention", name, t, "B, H, S, D" if heads is None else "B, S, H * D")
    if heads is not None and k.shape[-1] % integer("attention: heads", heads, 1):
        raise ValueError(must_be("attention: heads", f"a divisor of the width {k.shape[-1]} of k", heads))
    alike = [(*t.shape[:-2], t.shape[-1]) for t in (q, k)]
    if k.shape != v.shape or alike[0] != alike[1]:
        raise ValueError(
            f"attention: q, k and v must have equal B, H and D, and k and v one shape, got {q.shape}, "
            f"{k.shape} and {v.shape}"
        )
    if k.shape[-2] == 0 or k.shape[-1] == 0:
        raise ValueError(f"attention: k must have at least one key of one element, got shape {k.shape}")
    if flag("attention: causal", causal) and q.shape[-2] != k.shape[-2]:
        raise ValueError(
            f"attention: causal must have as many keys as queries, got {k.shape[-2]} and {q.shape[-2]}"
        )
    if key_lengths is not None:
        _check.indices("attention", "key_lengths", key_lengths, k.shape[-2] + 1, "lengths")
        _check.vector("attention", "key_lengths", key_lengths, k.shape[0], "one per item of the batch")
        _check.same_device("attention", "q", q, "key_lengths", key_lengths)
    return Attention.apply(q, k, v, key_lengths, causal=causal, heads=heads)
