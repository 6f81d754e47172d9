"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..tensor import Tensor
from ..validate import number
from .adaptive import Adaptive
from .optimizer import Array, StepScalars


class RMSprop(Adaptive):
    """RMSprop, which divides the gradient by the root of its averaged square.

        v = alpha * v + (1 - alpha) * g^2;  w = w - lr * g / (sqrt(v) + eps)
        with `momentum`: b = momentum * b + g / (sqrt(v) + eps);  w = w - lr * b

    Args:
        params: leaf tensors of any shape that require a gradient, float16, bfloat16 or float32; a
            `Parameter`'s own weight_decay comes before the argument.
        lr: learning rate, finite, > 0.
        alpha: decay of the squared gradient, in [0, 1). The default 0.9 is that of Keras' `rho`; PyTorch's
            `alpha` is the same factor with the default 0.99.
        eps: None means 1e-8, or 1e-3 for plain float16 state. Plain state rounds it to its dtype.
        momentum: in [0, 1).
        weight_decay: L2 factor >= 0 added to the gradient.
        update: "nearest", "stochastic", "kahan" or "master32"; with masters, the state is float32 too.
        master_values: float32 arrays to start the masters from; None means the parameters as they are now.
        state: the form of float16 state, "native" or "plain"; see `Adam`.
        seed: of stochastic rounding, in [0, 2^64).

    Rounding:
        All of a step is computed in FP32 registers; v, b and w are each rounded once, when stored. The step
        takes v as stored, from the register with "native" float16 state, and b from the register.

    Raises:
        ValueError: a number is out of range, `params` is empty, or eps rounds to 0 in the state's dtype.
        TypeError: an argument is no number, or a parameter no Tensor.
        UnsupportedPrecision: the update is unknown.

    Warns:
        UserWarning: eps changes by more than 1 % when it is rounded to the state's dtype.

    Source:
        Tieleman and Hinton, 2012, lecture 6.5.

    >>> import fp16engine as fe
    >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
    >>> fe.optim.RMSprop([w], lr=0.01).eps
    1e-08
    """

    hyper = ("lr", "weight_decay", "seed", "alpha", "eps", "momentum")

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        alpha: float = 0.9,
        eps: float | None = None,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        update: str = "nearest",
        master_values: Sequence[Any] | None = None,
        state: str = "native",
        seed: int = 0,
    ) -> None:
        self._check_form(state)
        self.alpha = number("alpha", alpha, minimum=0, below=1)
        self.momentum = number("momentum", momentum, minimum=0, below=1)
        self.slots = ("v", "momentum") if self.momentum > 0 else ("v",)
        self._given_eps = eps
        super().__init__(params, lr, weight_decay, update, master_values, seed)

    def change(
        self, i: int, grad: np.ndarray, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        g, averages = self._decayed(i, grad, before["w"]), self._averages(i, after)
        step = g / (np.sqrt(averages["v"]) + self._stored_eps(i))
        if "momentum" in self.slots:
            step = np.float32(self.momentum) * self._averages(i, before)["momentum"] + step
        return self._rate(i) * step

    def _kernel(
        self, backend: Any, members: list[int], scalars: StepScalars | Array, counts: Array | None
    ) -> None:
        backend.rmsprop(
            v=self._pick("v", members),
            momenta=self._pick("momentum", members) if self.momentum > 0 else None,
            alpha=self.alpha,
            eps=self.eps,
            momentum=self.momentum,
            native=self.state_form == "native",
            scalars=scalars,
            counts=counts,
            **self._arrays(members),
        )
