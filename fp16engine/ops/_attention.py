"""Scaled dot-product attention."""

from __future__ import annotations

from ..autograd import Array, Function
from ..tensor import Tensor
from . import _check


class Attention(Function):
    def forward(self, q: Array, k: Array, v: Array, causal: bool) -> Array:
        y, probs = self.backend.attention_forward(q, k, v, causal, self.acc)
        self.saved = (q, k, v, probs)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return self.backend.attention_backward(*self.saved, dy, self.acc)


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """Return softmax(q k^T / sqrt(D)) v per head (Vaswani et al., 1706.03762).

    q: (B, H, S, D), k and v: (B, H, T, D) -> (B, H, S, D). q is scaled before the product, so that binary16
        scores
    overflow D^0.5 times later; scores and probabilities are stored in the dtype of q. `causal` lets position
    i read the positions up to i only, and needs S = T.

    Raises:
        TypeError: an argument is no floating-point Tensor, or the dtypes differ.
        ValueError: the shapes do not fit, or the devices differ.

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
    return Attention.apply(q, k, v, causal=bool(causal))
