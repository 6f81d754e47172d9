"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..tensor import Tensor
from .optimizer import Optimizer, number


class Adam(Optimizer):
    """Adam (Kingma and Ba, 1412.6980): w -= lr * m' / (sqrt(v') + eps) with bias-corrected moments of g.

    Args:
        params: leaf tensors that require a gradient; a `Parameter`'s own weight_decay comes before the
            argument.
        lr: learning rate > 0.
        betas: decay of the moments, each in [0, 1); kept as FP32 numbers (0.9999 is 1 in float16).
        eps: None means 1e-8 for float32 state and 1e-3 for float16 state, the best of the study's table 4. It
            is rounded to the state's dtype.
        weight_decay: L2 factor >= 0 added to the gradient.
        update: "nearest" or "master32"; with masters, the moments are float32 too.
        master_values: float32 arrays to start the masters from (default: the parameters as they are now).

    In float16 the second moment is 0 for gradients below 5.46e-3 (beta2 = 0.999), so eps alone bounds the
    step there.

    Raises:
        ValueError: a number is out of range, `params` is empty, or eps rounds to 0 in the state's dtype.
        UnsupportedPrecision: the update is unknown.

    Warns:
        UserWarning: eps changes by more than 1 % when it is rounded to the state's dtype.

    >>> import fp16engine as fe
    >>> w = fe.tensor([1.0], "float16", "reference", requires_grad=True)
    >>> fe.optim.Adam([w]).eps
    0.001
    """

    slots = ("m", "v")
    hyper = ("lr", "weight_decay", "beta1", "beta2", "eps")
    decoupled = False

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
        weight_decay: float = 0.0,
        update: str = "nearest",
        master_values: Sequence[Any] | None = None,
    ) -> None:
        self.beta1 = number("betas[0]", betas[0], below=1.0)
        self.beta2 = number("betas[1]", betas[1], below=1.0)
        super().__init__(params, lr, weight_decay, update, master_values)
        self.eps = self._resolve_eps(eps)

    def _kernel(self, backend: Any, members: list[int], grad_scale: float) -> None:
        params, grads, masters, decays = self._arrays(members)
        backend.adam(
            params,
            grads,
            self._pick("m", members),
            self._pick("v", members),
            masters,
            self.lr,
            self.beta1,
            self.beta2,
            self.eps,
            self.step_count,
            decays,
            self.decoupled,
            grad_scale,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 1711.05101): w -= lr * wd * w besides.

    Decay and step are subtracted together in the register, so that a decay below half an ulp still counts.
    Arguments and errors are Adam's; `weight_decay` defaults to 0.01.

    >>> import fp16engine as fe
    >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
    >>> fe.optim.AdamW([w]).weight_decay
    0.01
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
        weight_decay: float = 0.01,
        update: str = "nearest",
        master_values: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, update, master_values)
