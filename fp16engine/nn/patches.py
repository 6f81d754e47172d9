"""Images as sequences of patches."""

from __future__ import annotations

from .. import functional as F
from ..tensor import Tensor
from ..validate import pair
from . import init
from .linear import Linear
from .module import Module


class PatchEmbedding(Module):
    """Cut images into square patches, and map each to a vector with its learned position.

        y[n, s] = projection(patch s of image n) + positions[s]

    Args:
        image_size: height and width (H, W) of the images.
        channels: channels C of the images.
        patch: side of a patch; pixels at the bottom and right that fill no patch are left out.
        dim: values in a vector.

    Attributes:
        projection: `Linear` from patch * patch * C to dim.
        positions: (S, dim), uniform in [-0.05, 0.05], S = (H // patch) * (W // patch).

    Call:
        x: (N, H, W, C), dtype of positions, float16, bfloat16 or float32; the result is (N, S, dim), patches
            row by row. Map and sum are each rounded once.

    Raises:
        ValueError: a size is no integer >= 1, the image holds no patch; at the call, x is no such image.

    Source:
        Dosovitskiy et al., 2020, arXiv 2010.11929; `keras.layers.Embedding` (initial positions).

    >>> import fp16engine as fe
    >>> layer = fe.nn.PatchEmbedding((32, 32), 3, 6, 64).to("reference")
    >>> layer(fe.tensor([[[[0.0] * 3] * 32] * 32], device="reference")).shape
    (1, 25, 64)
    """

    def __init__(self, image_size: tuple[int, int], channels: int, patch: int, dim: int) -> None:
        super().__init__()
        height, width = pair("PatchEmbedding: image_size", image_size, 1)
        init.positive("PatchEmbedding", channels=channels, patch=patch, dim=dim)
        if min(height, width) < patch:
            raise ValueError(
                f"PatchEmbedding: image_size must be at least a patch of {patch}x{patch}, got "
                f"{height}x{width}"
            )
        self.image = (height, width, channels)
        self.patch = patch
        self.rows, self.columns = height // patch, width // patch
        self.projection = Linear(patch * patch * channels, dim)
        self.positions = init.uniform((self.rows * self.columns, dim), 0.05)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1:] != self.image:
            height, width, channels = self.image
            raise ValueError(
                f"PatchEmbedding: x must be of shape (N, {height}, {width}, {channels}), got {x.shape}"
            )
        n, size, channels = x.shape[0], self.patch, self.image[2]
        used = (self.rows * size, self.columns * size)
        if used != self.image[:2]:
            x = x[:, : used[0], : used[1]]
        x = F.reshape(x, (n, self.rows, size, self.columns, size, channels))
        x = F.transpose(x, (0, 1, 3, 2, 4, 5))
        return self.projection(F.reshape(x, (n, self.rows * self.columns, -1))) + self.positions

    def extra_repr(self) -> str:
        return f"{self.image}, patch={self.patch}, dim={self.positions.shape[1]}"
