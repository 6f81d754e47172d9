"""Layers without parameters."""

from __future__ import annotations

import operator

from .. import functional as F
from ..tensor import Tensor
from ..validate import number
from .module import Module


class ReLU(Module):
    """Replace negative values by 0, see `functional.relu`.

        y = max(x, 0)

    Call:
        x: any shape, float16, bfloat16 or float32; the result has the same. Not rounded.

    >>> import fp16engine as fe
    >>> fe.nn.ReLU()(fe.tensor([-1.0, 2.0], device="reference")).numpy().tolist()
    [0.0, 2.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class ReLU6(Module):
    """Keep values within the bounds 0 and 6, see `functional.relu6`.

        y = min(max(x, 0), 6)

    Call:
        x: any shape, float16, bfloat16 or float32; the result has the same. Not rounded.

    >>> import fp16engine as fe
    >>> fe.nn.ReLU6()(fe.tensor([-1.0, 7.0], device="reference")).numpy().tolist()
    [0.0, 6.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x)


class GELU(Module):
    """Apply the Gaussian error linear unit, see `functional.gelu`.

        y = x * Phi(x)

    Call:
        x: any shape, float16, bfloat16 or float32; the result has the same, rounded once.

    >>> import fp16engine as fe
    >>> round(fe.nn.GELU()(fe.tensor([1.0], device="reference")).item(), 4)
    0.8413
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x)


class Tanh(Module):
    """Apply the hyperbolic tangent, see `functional.tanh`.

    Call:
        x: any shape, float16, bfloat16 or float32; the result has the same, rounded once.

    >>> import fp16engine as fe
    >>> fe.nn.Tanh()(fe.tensor([0.0, 10.0], "float16", "reference")).numpy().tolist()
    [0.0, 1.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Sigmoid(Module):
    """Apply the logistic function, see `functional.sigmoid`.

    Call:
        x: any shape, float16, bfloat16 or float32; the result has the same, rounded after each of four
            operations.

    >>> import fp16engine as fe
    >>> fe.nn.Sigmoid()(fe.tensor([0.0], "float16", "reference")).item()
    0.5
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)


class SiLU(Module):
    """Apply the sigmoid linear unit, see `functional.silu`.

        y = x * sigmoid(x)

    Call:
        x: any shape, float16, bfloat16 or float32; the result has the same, rounded after each of six
            operations.

    >>> import fp16engine as fe
    >>> fe.nn.SiLU()(fe.tensor([0.0], "float16", "reference")).item()
    0.0
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class Identity(Module):
    """Return the input itself: it takes the place of a layer that is left out.

    Call:
        x: any shape and any dtype.

    >>> import fp16engine as fe
    >>> x = fe.tensor([1.0], device="reference")
    >>> fe.nn.Identity()(x) is x
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        return x


class CrossEntropyLoss(Module):
    """Compute the mean cross-entropy of a batch, see `functional.cross_entropy`.

    Args:
        ignore_index: the label of samples that do not count; None: all count.
        label_smoothing: share of a label spread over all classes, in [0, 1].

    Call:
        logits: (N, K), float16, bfloat16 or float32.
        labels: (N,), int64.

    Raises:
        ValueError: label_smoothing is out of range.
        TypeError: an argument is of the wrong kind.

    >>> import fp16engine as fe
    >>> logits, labels = fe.tensor([[0.0, 0.0]], device="reference"), fe.tensor([1], device="reference")
    >>> round(fe.nn.CrossEntropyLoss()(logits, labels).item(), 4)
    0.6931
    """

    def __init__(self, ignore_index: int | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.ignore_index = ignore_index if ignore_index is None else operator.index(ignore_index)
        self.label_smoothing = number(
            "CrossEntropyLoss: label_smoothing", label_smoothing, minimum=0, maximum=1
        )

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, self.ignore_index, self.label_smoothing)

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing}"


class Flatten(Module):
    """Put all axes but the first in one, see `functional.flatten`.

    Call:
        x: (N, ...), any dtype; the result is (N, product of the other sizes), not rounded.

    >>> import fp16engine as fe
    >>> fe.nn.Flatten()(fe.tensor([[[1.0, 2.0], [3.0, 4.0]]], device="reference")).shape
    (1, 4)
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.flatten(x)


class Dropout(Module):
    """Drop elements with probability `p` in training and scale the others, see `functional.dropout`.

    Args:
        p: probability in [0, 1) that an element is dropped.

    Call:
        x: any shape, float16, bfloat16 or float32; the result has the same, rounded once; in evaluation, x
            itself.

    Raises:
        ValueError: `p` is outside [0, 1).

    Source:
        Srivastava et al., 2014.

    >>> import fp16engine as fe
    >>> fe.nn.Dropout(0.5).eval()(fe.tensor([1.0], device="reference")).item()
    1.0
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        number("Dropout: p", p, minimum=0, below=1)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
