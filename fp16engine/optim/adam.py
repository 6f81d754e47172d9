"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..tensor import Tensor
from ..validate import must_be, number
from .adaptive import Adaptive
from .optimizer import Array, StepScalars


def checked_betas(betas: Any) -> tuple[float, float]:
    """Return the decays of both moments; TypeError unless they are two numbers, ValueError out of [0, 1)."""
    if not isinstance(betas, Sequence) or isinstance(betas, str) or len(betas) != 2:
        raise TypeError(must_be("betas", "two numbers >= 0 and < 1", betas))
    first, second = (number(f"betas[{i}]", beta, minimum=0, below=1) for i, beta in enumerate(betas))
    return first, second


class Adam(Adaptive):
    """Adam, with first and second moments of the gradient.

        m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2
        w = w - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: leaf tensors of any shape that require a gradient, float16, bfloat16 or float32; a
            `Parameter`'s own weight_decay comes before the argument.
        lr: learning rate, finite, > 0.
        betas: decay of the moments, each in [0, 1); kept as FP32 numbers (0.9999 is 1 in float16).
        eps: None means 1e-8, or 1e-3 for plain float16 state, the best of table 4 of arXiv 2305.10947. Plain
            state rounds it to its dtype.
        weight_decay: L2 factor >= 0 added to the gradient.
        update: "nearest", "stochastic", "kahan" or "master32"; with masters, the moments are float32 too.
        master_values: float32 arrays to start the masters from; None means the parameters as they are now.
        state: the form of float16 moments. "native" keeps sign(m) sqrt|m| and v^(1/4), rounded
            stochastically: they reach as far as gradients do, and eps stays in a register. "plain" is the
            textbook's m and v, whose v is 0 for gradients below 5.46e-3 (beta2 = 0.999), so that eps alone
            bounds the step there; eps=0 is for it alone.
        seed: of stochastic rounding, in [0, 2^64).

    Rounding:
        All of a step is computed in FP32 registers; m, v and w are each rounded once, when stored. The step
        takes m from the register and v as stored, both from registers with "native" float16 state.

    Raises:
        ValueError: a number is out of range, `params` is empty, or eps rounds to 0 in the state's dtype.
        TypeError: an argument is no number, or a parameter no Tensor.
        UnsupportedPrecision: the update is unknown.

    Warns:
        UserWarning: eps changes by more than 1 % when it is rounded to the state's dtype.

    Source:
        Kingma and Ba, 2014, arXiv 1412.6980.

    >>> import fp16engine as fe
    >>> w = fe.tensor([1.0], "float16", "reference", requires_grad=True)
    >>> fe.optim.Adam([w]).eps, fe.optim.Adam([w], state="plain").eps
    (1e-08, 0.001)
    """

    slots = ("m", "v")
    hyper = ("lr", "weight_decay", "seed", "beta1", "beta2", "eps")
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
        state: str = "native",
        seed: int = 0,
    ) -> None:
        self._check_form(state)
        self.beta1, self.beta2 = checked_betas(betas)
        self._given_eps = eps
        super().__init__(params, lr, weight_decay, update, master_values, seed)

    def scalars(self, grad_scale: float = 1.0) -> StepScalars:
        """Return the numbers of step `step_count`, with the corrections 1 - beta^step of its moments.

        Args:
            grad_scale: factor on the gradients, 1 / loss scale.

        >>> import fp16engine as fe
        >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
        >>> adam = fe.optim.Adam([w], betas=(0.5, 0.75))
        >>> adam.step_count = 1
        >>> adam.scalars().correction1, adam.scalars().correction2
        (0.5, 0.25)
        """
        powers = (integer_power(beta, self.step_count) for beta in (self.beta1, self.beta2))
        correction1, correction2 = (1 - power for power in powers)
        return super().scalars(grad_scale)._replace(correction1=correction1, correction2=correction2)

    def change(
        self, i: int, grad: np.ndarray, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        g = grad if self.decoupled else self._decayed(i, grad, before["w"])
        before, after, t = self._averages(i, before), self._averages(i, after), max(self.step_count, 1)
        m = np.float32(self.beta1) * before["m"] + np.float32(1 - self.beta1) * g
        root = np.sqrt(after["v"] / np.float32(1 - self.beta2**t)) + self._stored_eps(i)
        change = self._rate(i) * (m / np.float32(1 - self.beta1**t)) / root
        if self.decoupled:
            change = change + np.float32(self.lr * self.lr_factors[i] * self._decay(i)) * before["w"]
        return change

    def _kernel(
        self, backend: Any, members: list[int], scalars: StepScalars | Array, counts: Array | None
    ) -> None:
        backend.adam(
            m=self._pick("m", members),
            v=self._pick("v", members),
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            native=self.state_form == "native",
            decoupled=self.decoupled,
            scalars=scalars,
            counts=counts,
            **self._arrays(members),
        )


def integer_power(base: float, exponent: int) -> float:
    """Return base ** exponent by squaring, in binary64: the same bits wherever it is computed.

    >>> integer_power(0.5, 3)
    0.125
    """
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


class AdamW(Adam):
    """Adam with decoupled weight decay.

        w = w - (lr * m' / (sqrt(v') + eps) + lr * weight_decay * w), m' and v' as in `Adam`

    Args:
        params: as in `Adam`, tensors of any shape, float16, bfloat16 or float32.
        lr: as in `Adam`.
        betas: as in `Adam`.
        eps: as in `Adam`.
        weight_decay: factor >= 0 on the weight itself.
        update: as in `Adam`.
        master_values: as in `Adam`.
        state: as in `Adam`.
        seed: as in `Adam`.

    Rounding:
        As in `Adam`. Decay and step are subtracted together in the register, so that a decay below half an
        ulp still counts.

    Raises:
        ValueError: as `Adam`.
        TypeError: as `Adam`.
        UnsupportedPrecision: as `Adam`.

    Source:
        Loshchilov and Hutter, 2017, arXiv 1711.05101.

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
        state: str = "native",
        seed: int = 0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, update, master_values, state, seed)
