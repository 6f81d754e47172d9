"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..tensor import Tensor
from .optimizer import Optimizer, number


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012): v = alpha * v + (1 - alpha) * g^2; w -= lr * g / (sqrt(v) + eps).

    With `momentum`, the step is accumulated first: b = momentum * b + g / (sqrt(v) + eps); w -= lr * b.

    Args:
        params: leaf tensors that require a gradient; a `Parameter`'s own weight_decay comes before the
            argument.
        lr: learning rate > 0.
        alpha: decay of the squared gradient, in [0, 1).
        eps: None means 1e-8 for float32 state and 1e-3 for float16 state; it is rounded to the state's dtype.
        momentum: in [0, 1).
        weight_decay: L2 factor >= 0 added to the gradient.
        update: "nearest" or "master32"; with masters, the state is float32 too.
        master_values: float32 arrays to start the masters from (default: the parameters as they are now).

    Raises:
        ValueError: a number is out of range, `params` is empty, or eps rounds to 0 in the state's dtype.
        UnsupportedPrecision: the update is unknown.

    Warns:
        UserWarning: eps changes by more than 1 % when it is rounded to the state's dtype.

    >>> import fp16engine as fe
    >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
    >>> fe.optim.RMSprop([w], lr=0.01).eps
    1e-08
    """

    hyper = ("lr", "weight_decay", "alpha", "eps", "momentum")

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
    ) -> None:
        self.alpha = number("alpha", alpha, below=1.0)
        self.momentum = number("momentum", momentum, below=1.0)
        self.slots = ("v", "momentum") if self.momentum > 0 else ("v",)
        super().__init__(params, lr, weight_decay, update, master_values)
        self.eps = self._resolve_eps(eps)

    def _kernel(self, backend: Any, members: list[int], grad_scale: float) -> None:
        params, grads, masters, decays = self._arrays(members)
        momenta = self._pick("momentum", members) if self.momentum > 0 else None
        backend.rmsprop(
            params,
            grads,
            self._pick("v", members),
            momenta,
            masters,
            self.lr,
            self.alpha,
            self.eps,
            self.momentum,
            decays,
            grad_scale,
        )
