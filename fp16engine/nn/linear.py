"""Affine layer and table look-up."""

from __future__ import annotations

from .. import functional as F
from ..tensor import Tensor
from ..validate import flag
from . import init
from .module import Module


class Linear(Module):
    """Map the last axis of x by a trained matrix and bias, see `functional.linear`.

        y = x @ weight.T + bias

    Args:
        in_features: size of the last axis of x.
        out_features: size of the last axis of y.
        bias: whether a bias is added.

    Attributes:
        weight: (out_features, in_features), Glorot-uniform.
        bias: (out_features,), zeros; or None.

    Call:
        x: (..., in_features), dtype of weight, float16, bfloat16 or float32; the result is (...,
            out_features). The sum accumulates as the active `Precision` says; sum and bias are rounded once.

    Raises:
        ValueError: a size is no integer >= 1.

    Source:
        `torch.nn.Linear` (arguments); `keras.layers.Dense` (initial values).

    >>> import fp16engine as fe
    >>> fe.nn.Linear(3, 2).to("reference")(fe.tensor([[1.0, 2.0, 3.0]], device="reference")).shape
    (1, 2)
    """

    dot_product = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        init.positive("Linear", in_features=in_features, out_features=out_features)
        self.weight = init.glorot_uniform((out_features, in_features), in_features, out_features)
        self.bias = init.constant((out_features,), 0.0) if flag("Linear: bias", bias) else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        out, inputs = self.weight.shape
        return f"{inputs}, {out}" + ("" if self.bias is not None else ", bias=False")


class Embedding(Module):
    """Look up rows of a trained table, see `functional.embedding`.

    Args:
        num_embeddings: rows of the table.
        dim: values in a row.

    Attributes:
        weight: (num_embeddings, dim), uniform in [-0.05, 0.05].

    Call:
        ids: any shape (...), int64 in [0, num_embeddings); the result is (..., dim), dtype of weight, not
            rounded.

    Raises:
        ValueError: a size is no integer >= 1; at the call, an id is out of range.

    Source:
        `keras.layers.Embedding` (initial values).

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
