"""Vision transformers (Dosovitskiy et al., 2010.11929) for small images, as in the study (2305.10947)."""

from __future__ import annotations

from ..nn import (
    GELU,
    Dropout,
    Flatten,
    LayerNorm,
    Linear,
    Module,
    MultiHeadAttention,
    PatchEmbedding,
    Sequential,
)
from ..tensor import Tensor
from ..validate import integer
from ._size import at_least

PATCH = 6
DIM = 64
HEADS = 4
HEAD_DIM = 64
HIDDEN = 512
EPS = 1e-6


class Block(Module):
    """Attention and a GELU layer pair, each with dropout 0.1, a residual sum and a norm after it.

    x: (N, S, dim) -> (N, S, dim).
    """

    def __init__(self, dim: int, heads: int, head_dim: int, hidden: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads, head_dim)
        self.dropout1 = Dropout(0.1)
        self.norm1 = LayerNorm(dim, EPS)
        self.mlp = Sequential(Linear(dim, hidden), GELU(), Linear(hidden, dim))
        self.dropout2 = Dropout(0.1)
        self.norm2 = LayerNorm(dim, EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout1(self.attention(x)))
        return self.norm2(x + self.dropout2(self.mlp(x)))


def vit(depth: int, num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return patches of 6x6, `depth` blocks and two dense GELU layers of 512 before the classifier.

    (N, H, W, C) -> (N, num_classes), H and W at least 6; the images must have the size given here. Names
    exist for 8 and 12 blocks; `manual_seed` decides the weights of any other depth.

    Raises:
        ValueError: the depth is no integer >= 1, or the images are smaller than a patch.

    >>> import fp16engine as fe
    >>> fe.models.vit.vit(1, 10, (32, 32), 3).num_parameters()
    1228938
    """
    integer("vit: depth", depth, 1)
    at_least(f"vit{depth}", image_size, PATCH)
    patches = (image_size[0] // PATCH) * (image_size[1] // PATCH)
    return Sequential(
        PatchEmbedding(image_size, channels, PATCH, DIM),
        *(Block(DIM, HEADS, HEAD_DIM, HIDDEN) for _ in range(depth)),
        LayerNorm(DIM, EPS),
        Flatten(),
        Dropout(0.5),
        Linear(patches * DIM, HIDDEN),
        GELU(),
        Linear(HIDDEN, HIDDEN),
        GELU(),
        Linear(HIDDEN, num_classes),
    )


def vit8(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return `vit` with 8 blocks."""
    return vit(8, num_classes, image_size, channels)


def vit12(num_classes: int, image_size: tuple[int, int], channels: int) -> Sequential:
    """Return `vit` with 12 blocks."""
    return vit(12, num_classes, image_size, channels)
