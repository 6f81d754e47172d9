"""Multi-head attention layer."""

from __future__ import annotations

from .. import backend as backends
from .. import functional as F
from ..backend.neighbours import as_one
from ..tensor import Tensor
from ..validate import must_be
from . import init
from .linear import Linear
from .module import Module, Parameter

_VECTOR = 16  # bytes that a kernel of a GPU loads at once, from multiples of it


class MultiHeadAttention(Module):
    """Attend with several heads, each between projections of its own, see `functional.attention`.

        out(concatenation of the heads of attention(query(x), key(memory), value(memory)))

    Args:
        dim: width of x and memory.
        num_heads: number of heads.
        head_dim: width of a head; None means dim / num_heads.
        bias: whether the four projections, `Linear` layers, have biases.

    Call:
        x: (B, S, dim), float16, bfloat16 or float32; the result has the same shape and dtype.
        memory: what is attended to, (B, T, dim), dtype of x; None means x.
        causal: let position i read the positions up to i only.
        key_lengths: (B,), int64: how many positions of memory are no padding; None means all.

    Where x reads itself, the three projections are one product, see `functional.projections`: y is the same,
    and dx is rounded once. Projections and heads are each rounded once. `project` and `attend` are the two
    halves of a call, for a decoder that keeps keys and values from step to step.

    Raises:
        ValueError: a size is no integer >= 1, `num_heads` does not divide `dim` and no `head_dim` is given;
            at the call, x or memory has not three axes.

    Source:
        Vaswani et al., 2017, arXiv 1706.03762.

    >>> import fp16engine as fe
    >>> layer = fe.nn.MultiHeadAttention(8, 2).to("reference")
    >>> layer(fe.tensor([[[0.0] * 8] * 5], device="reference")).shape
    (1, 5, 8)
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int | None = None, bias: bool = True) -> None:
        super().__init__()
        init.positive("MultiHeadAttention", dim=dim, num_heads=num_heads)
        if head_dim is None:
            if dim % num_heads:
                raise ValueError(
                    must_be("MultiHeadAttention: num_heads", f"a divisor of dim {dim}", num_heads)
                )
            head_dim = dim // num_heads
        init.positive("MultiHeadAttention", head_dim=head_dim)
        self.num_heads = num_heads
        width = num_heads * head_dim
        self.query = Linear(dim, width, bias)
        self.key = Linear(dim, width, bias)
        self.value = Linear(dim, width, bias)
        self.out = Linear(width, dim, bias)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        causal: bool = False,
        key_lengths: Tensor | None = None,
    ) -> Tensor:
        _three_axes("x", x)
        if memory is None:
            maps = self._maps_of_one_input()
            if maps is not None:
                read = F.attention(F.projections(x, *maps), None, None, causal, key_lengths, self.num_heads)
                return self.out(read)
            memory = x
        _three_axes("memory", memory)
        k, v = self.key(memory), self.value(memory)
        return self.out(F.attention(self.query(x), k, v, causal, key_lengths, self.num_heads))

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values of what is attended to.

        Args:
            memory: (B, T, dim), float16, bfloat16 or float32.

        Returns:
            Keys and values, each (B, heads, T, head_dim), dtype of memory, rounded once.

        Raises:
            ValueError: memory has not three axes.

        >>> import fp16engine as fe
        >>> layer = fe.nn.MultiHeadAttention(8, 2).to("reference")
        >>> layer.project(fe.tensor([[[0.0] * 8] * 5], device="reference"))[0].shape
        (1, 2, 5, 4)
        """
        _three_axes("memory", memory)
        return self._split(self.key(memory)), self._split(self.value(memory))

    def attend(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        causal: bool = False,
        key_lengths: Tensor | None = None,
    ) -> Tensor:
        """Return what x reads from the keys and values that `project` gave.

        Args:
            x: (B, S, dim), float16, bfloat16 or float32.
            keys: (B, heads, T, head_dim), dtype of x.
            values: (B, heads, T, head_dim), dtype of x.
            causal: let position i read the positions up to i only; needs S = T.
            key_lengths: (B,), int64: how many keys are no padding; None means all.

        Returns:
            (B, S, dim), dtype of x.

        Raises:
            ValueError: the shapes do not fit, see `functional.attention`.

        >>> import fp16engine as fe
        >>> layer = fe.nn.MultiHeadAttention(8, 2).to("reference")
        >>> x = fe.tensor([[[0.0] * 8] * 5], device="reference")
        >>> layer.attend(x, *layer.project(x)).shape
        (1, 5, 8)
        """
        heads = F.attention(self._split(self.query(x)), keys, values, causal, key_lengths)
        b, h, s, d = heads.shape
        return self.out(F.reshape(F.transpose(heads, (0, 2, 1, 3)), (b, s, h * d)))

    def _maps_of_one_input(self) -> tuple[list[Parameter], list[Parameter] | None] | None:
        """The weights and biases of query, key and value where one product may stand for the three."""
        layers = (self.query, self.key, self.value)
        # a layer that was put in, or that has a format of its own, computes by itself
        if any(type(layer) is not Linear or layer.operand is not None for layer in layers):
            return None
        weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        given = [b for b in biases if b is not None]
        if len({w.shape for w in weights}) > 1 or len(given) not in (0, 3):
            return None
        return weights, given or None

    def _lay_out(self) -> None:
        maps = self._maps_of_one_input()
        for tensors in () if maps is None else maps:
            if tensors is not None:
                _put_together(tensors)

    def _split(self, x: Tensor) -> Tensor:
        """(B, S, heads * D) -> (B, heads, S, D)."""
        b, s, width = x.shape
        return F.transpose(F.reshape(x, (b, s, self.num_heads, width // self.num_heads)), (0, 2, 1, 3))


def _put_together(tensors: list[Parameter]) -> None:
    """Give the tensors one block of memory, in their order, where each starts at a multiple of 16 bytes."""
    first = tensors[0]
    arrays = [t.data for t in tensors]
    several = len({id(t) for t in tensors}) > 1 and len({(t.device, t.dtype) for t in tensors}) == 1
    if not several or first.data.nbytes % _VECTOR or as_one(arrays) is not None:
        return
    whole = backends.get(first.device).cat(arrays, 0)
    rows = len(first.data)
    for i, t in enumerate(tensors):
        t.data = whole[i * rows : (i + 1) * rows]


def _three_axes(name: str, x: Tensor) -> None:
    if x.ndim != 3:
        raise ValueError(f"MultiHeadAttention: {name} must be of shape (B, S, dim), got {x.shape}")
