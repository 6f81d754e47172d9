"""Scaled dot-product attention."""

from __future__ import annotations

from ..autograd import Array, Function
from ..backend import heads as by_heads
from ..tensor import Tensor
from ..validate import flag, integer, must_be
from . import _check
from ._operand import drawn


class Attention(Function):
    multiplies = True

    def forward(
        self,
        q: Array,
        k: Array | None,
        v: Array | None,
        lengths: Array | None,
        causal: bool,
        heads: int | None,
    ) -> Array:
        self.packed = k is None
        # what the backend does not read as it lies is taken apart once, for the way back too
        self.apart = heads is not None and not self.backend.capabilities.attention_by_heads
        self.heads = None if self.apart else heads
        if heads is not None and self.apart:
            given = (q, k, v)
            if self.packed:
                given = tuple(self.backend.getitem(q, (..., part)) for part in by_heads.thirds(q.shape[-1]))
            q, k, v = (by_heads.apart(self.backend.transpose, x, heads) for x in given)
        rows = q.shape[0] * (self.heads or q.shape[1]) * q.shape[-2]
        queries, keys, values = by_heads.parts(q, k, v)
        operand = drawn(self.operand, 4, queries, keys, values, largest=rows * keys.shape[-2])
        y, probs = self.backend.attention_forward(q, k, v, causal, lengths, self.acc, operand, self.heads)
        self.saved = (q, k, v, probs)
        return by_heads.joined(self.backend.transpose, y) if self.apart else y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        q, k, v, probs = self.saved
        if self.apart:
            dy = by_heads.apart(self.backend.transpose, dy, q.shape[1])
        operand = drawn(self.operand, 8, *by_heads.parts(q, k, v), probs, dy)
        # a masked probability is 0 and makes its score's gradient 0: the mask is not needed again
        gradients = self.backend.attention_backward(q, k, v, probs, dy, self.acc, operand, self.heads)
        if self.apart:
            gradients = tuple(by_heads.joined(self.backend.transpose, x) for x in gradients)
            if self.packed:
                gradients = (self.backend.cat(gradients, 2), None, None)
        return (*gradients, None)


def attention(
    q: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    causal: bool = False,
    key_lengths: Tensor | None = None,
    heads: int | None = None,
) -> Tensor:
    """Return scaled dot-product attention, head by head.

        y = softmax(q @ k.T / sqrt(D)) @ v

    Args:
        q: queries (B, H, S, D), float16, bfloat16 or float32.
        k: keys (B, H, T, D), dtype of q; T and D at least 1. None: queries, keys and values lie side by side
            in q, (B, S, 3 * H * D), as `projections` makes them of one input; needs `heads`.
        v: values (B, H, T, D), dtype of q; None where k is.
        causal: let query i read the keys 0 to i only; needs S = T.
        key_lengths: (B,), int64 in [0, T], or None for T. The keys of item b from key_lengths[b] on are
            padding: they are not read, so no number stands for minus infinity. A query without a key gives 0.
        heads: number H of heads that lie side by side, in q (B, S, H * D), k and v (B, T, H * D); None for
            the four axes above.

    Returns:
        The shape and dtype of q; (B, S, H * D) where that holds all three.

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
    if k is None and v is None:
        return _of_packed(q, causal, key_lengths, heads)
    if k is None or v is None:
        raise ValueError(
            "attention: k and v must both be Tensors, or both None where q holds all three, got one of each"
        )
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
    _check_lengths(q, key_lengths, k.shape[-2])
    return Attention.apply(q, k, v, key_lengths, causal=causal, heads=heads)


def _of_packed(q: Tensor, causal: bool, key_lengths: Tensor | None, heads: int | None) -> Tensor:
    """`attention` of queries, keys and values side by side."""
    _check.alike("attention", q=q)
    _check.rank("attention", "q", q, "B, S, 3 * H * D")
    if heads is None:
        raise ValueError(must_be("attention: heads", "the number of heads where q holds k and v", None))
    if q.shape[-1] == 0 or q.shape[-1] % (3 * integer("attention: heads", heads, 1)):
        raise ValueError(
            must_be("attention: heads", f"a divisor of a third of the width {q.shape[-1]} of q", heads)
        )
    if q.shape[1] == 0:
        raise ValueError(f"attention: q must have at least one row, got shape {q.shape}")
    flag("attention: causal", causal)
    _check_lengths(q, key_lengths, q.shape[1])
    return Attention.apply(q, None, None, key_lengths, causal=causal, heads=heads)


def _check_lengths(q: Tensor, key_lengths: Tensor | None, keys: int) -> None:
    if key_lengths is None:
        return
    _check.indices("attention", "key_lengths", key_lengths, keys + 1, "lengths")
    _check.vector("attention", "key_lengths", key_lengths, q.shape[0], "one per item of the batch")
    _check.same_device("attention", "q", q, "key_lengths", key_lengths)
