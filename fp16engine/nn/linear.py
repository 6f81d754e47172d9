"""Affine layer and table look-up."""

from __future__ import annotations

from .. import functional as F
from ..tensor import Tensor
from . import init
from .module import Module


class Linear(Module):
    """y = x @ weight.T + bias: x (..., in_features) -> (..., out_features), see `functional.linear`.

    weight: (out_features, in_features), Glorot-uniform; bias: (out_features,), zero.

    >>> import fp16engine as fe
    >>> fe.nn.Linear(3, 2).to("reference")(fe.tensor([[1.0, 2.0, 3.0]], device="reference")).shape
    (1, 2)
    """

    dot_product = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        init.positive("Linear", in_features=in_features, out_features=out_features)
        self.weight = init.glorot_uniform((out_features, in_features), in_features, out_features)
        self.bias = init.constant((out_features,), 0.0) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        out, inputs = self.weight.shape
        return f"{inputs}, {out}" + ("" if self.bias is not None else ", bias=False")


class Embedding(Module):
    """Rows of a trained table: ids (...) int64 -> (..., dim), see `functional.embedding`.

    weight: (num_embeddings, dim), uniform in [-0.05, 0.05] as in Keras.

    >>> import fp16engine as fe
    >>> fe.nn.Embedding(10, 4).to("reference")(fe.tensor([1, 2], device="reference")).shape
    (2, 4)
    """

    def __init__(self, num_embeddings: int, dim: int) -> None:
        super().__init__()
        init.positive("Embedding", num_embeddings=num_embeddings, dim=dim)
        self.weight = init.uniform((num_embeddings, dim), 0.05)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"
