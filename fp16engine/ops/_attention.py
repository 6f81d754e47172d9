"""Scaled dot-product attention."""

from __future__ import annotations

import math

from ..autograd import Array, Function
from ..tensor import Tensor
from . import _check
from ._operand import drawn


class Attention(Function):
    multiplies = True

    def forward(self, q: Array, k: Array, v: Array, lengths: Array | None, causal: bool) -> Array:
        scores = math.prod(q.shape[:3]) * k.shape[2]
        operand = drawn(self.operand, 4, q, k, v, largest=scores)
        y, probs = self.backend.attention_forward(q, k, v, causal, lengths, self.acc, operand)
        self.saved = (q, k, v, probs)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        operand = drawn(self.operand, 8, *self.saved, dy)
        # a masked probability is 0 and makes its score's gradient 0: the mask is not needed again
        return (*self.backend.attention_backward(*self.saved, dy, self.acc, operand), None)


def attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool = False, key_lengths: Tensor | None = None
) -> Tensor:
    """Return softmax(q k^T / sqrt(D)) v per head (Vaswani et al., 1706.03762).

    q: (B, H, S, D), k and v: (B, H, T, D) -> (B, H, S, D). q is scaled before the product, so that binary16
        scores
    overflow D^0.5 times later; scores and probabilities are stored in the dtype of q. `causal` lets position
    i read the positions up to i only, and needs S = T. `key_lengths`: (B,) int64; the keys of batch item b
    from key_lengths[b] on are padding, whatever finite numbers are there. They are masked by not being read
    in the softmax, so no number stands for minus infinity; a query without any key gives zeros.

    Raises:
        TypeError: an argument is no floating-point Tensor, or the dtypes differ; key_lengths is not int64.
        ValueError: the shapes do not fit, the devices differ, or a length is outside 0 to T.

    >>> import fp16engine as fe
    >>> x = fe.tensor([[[[1.0, 0.0], [0.0, 1.0]]]], device="reference")
    >>> fe.functional.attention(x, x, x, causal=True).numpy()[0, 0, 0].tolist()
    [1.0, 0.0]
    """
    _check.alike("attention", q=q, k=k, v=v)
    for name, t in (("q", q), ("k", k), ("v", v)):
        _check.rank("attention", name, t, "B, H, S, D")
    if k.shape != v.shape or (q.shape[:2], q.shape[3]) != (k.shape[:2], k.shape[3]):
        raise ValueError(
            f"attention: q has shape {q.shape}, k {k.shape}, v {v.shape}; "
            "equal B, H, D, and k like v are wanted"
        )
    if k.shape[2] == 0 or k.shape[3] == 0:
        raise ValueError(f"attention: k has shape {k.shape}, at least one key of one element is wanted")
    if causal and q.shape[2] != k.shape[2]:
        raise ValueError(
            f"attention: causal with {q.shape[2]} queries and {k.shape[2]} keys given, equal is wanted"
        )
    if key_lengths is not None:
        _check.indices("attention", "key_lengths", key_lengths, k.shape[2] + 1, "lengths")
        _check.vector("attention", "key_lengths", key_lengths, k.shape[0], "one per item of the batch")
        _check.same_device("attention", "q", q, "key_lengths", key_lengths)
    return Attention.apply(q, k, v, key_lengths, causal=bool(causal))
