"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..tensor import Tensor
from ..validate import flag, number
from .optimizer import Array, Optimizer, StepScalars


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay.

        g = g + weight_decay * w;  m = momentum * m + g;  w = w - lr * m
        with `nesterov`: w = w - lr * (g + momentum * m)

    Args:
        params: leaf tensors of any shape that require a gradient, float16, bfloat16 or float32; a
            `Parameter`'s own weight_decay comes before the argument.
        lr: learning rate, finite, > 0.
        momentum: in [0, 1). The momentum array has the parameter's dtype, float32 with a master. A float16
            one is rounded to nearest: constant gradients bring it to 0.997 of its limit with 0.9, 0.97 with
            0.99, 0.73 with 0.999, and it stops decaying at 2.4e-7, 3e-6 and 3e-5.
        nesterov: needs momentum > 0.
        weight_decay: L2 factor >= 0, added to the gradient in the register (as a separate fp16 step it would
            round away for lr * wd <= 2.44e-4).
        update: "nearest", "stochastic", "kahan" or "master32"; see `Optimizer`.
        master_values: float32 arrays to start the masters from; None means the parameters as they are now.
        seed: of stochastic rounding, in [0, 2^64).

    Rounding:
        g, m and the step are FP32 registers; m and w are each rounded once, when stored. With "nearest", an
        update below half an ulp of a float16 weight is lost: from 1, 4.88e-4 upwards, 2.44e-4 downwards.

    Raises:
        ValueError: a number is out of range, or `params` is empty.
        TypeError: an argument is no number, or a parameter no Tensor.
        UnsupportedPrecision: the update is unknown.

    Source:
        `torch.optim.SGD` (equations); Sutskever et al., 2013 (Nesterov momentum).

    >>> import fp16engine as fe
    >>> w = fe.tensor([1.0], "float16", "reference", requires_grad=True)
    >>> (w * 2.0).sum().backward()
    >>> fe.optim.SGD([w], lr=0.25).step()
    >>> w.item()
    0.5
    """

    hyper = ("lr", "weight_decay", "seed", "momentum", "nesterov")

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        update: str = "nearest",
        master_values: Sequence[Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.momentum = number("momentum", momentum, minimum=0, below=1)
        self.nesterov = flag("nesterov", nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("momentum must be > 0 with nesterov=True, got 0")
        self.slots = ("momentum",) if self.momentum > 0 else ()
        super().__init__(params, lr, weight_decay, update, master_values, seed)

    def change(
        self, i: int, grad: np.ndarray, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        g, lr, momentum = self._decayed(i, grad, before["w"]), self._rate(i), np.float32(self.momentum)
        if not self.slots:
            return lr * g
        moving = momentum * before["momentum"] + g
        return lr * (g + momentum * moving if self.nesterov else moving)

    def _kernel(
        self, backend: Any, members: list[int], scalars: StepScalars | Array, counts: Array | None
    ) -> None:
        backend.sgd(
            momenta=self._pick("momentum", members) if self.slots else None,
            momentum=self.momentum,
            nesterov=self.nesterov,
            scalars=scalars,
            counts=counts,
            **self._arrays(members),
        )
