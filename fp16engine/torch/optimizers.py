"""SGD, Adam, AdamW and RMSprop for half-precision parameters of PyTorch."""

from __future__ import annotations

from typing import Any, ClassVar

from .. import optim as ours
from .optimizer import Group, Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent on PyTorch's tensors, with momentum and weight decay.

        g = g + weight_decay * w;  m = momentum * m + g;  w = w - lr * m
        with `nesterov`: w = w - lr * (g + momentum * m)

    Args:
        params: as in `Optimizer`: float16 or float32 tensors of any shape, or groups of them.
        lr: learning rate, finite, >= 0.
        momentum: in [0, 1).
        weight_decay: L2 factor >= 0, added to the gradient in the register.
        nesterov: needs momentum > 0.
        update: how a float16 weight is stored: "nearest", "stochastic", "kahan" or "master32".
        seed: of stochastic rounding, in [0, 2^64).
        refused: options of `torch.optim.SGD` that have no counterpart here.

    Rounding:
        As in `fp16engine.optim.SGD`.

    Raises:
        ValueError: a number is out of range, or a tensor is of another dtype, device or layout.
        TypeError: an argument is of another type, or no option of this class.

    Source:
        `fp16engine.optim.SGD`.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> w = torch.ones(10_000, dtype=torch.float16, requires_grad=True)
    >>> w.grad = torch.ones_like(w)
    >>> optimizer = fet.SGD([w], lr=1e-4)
    >>> for _ in range(1000):
    ...     optimizer.step()
    >>> f"{w.float().mean().item():.2f}"
    '0.90'
    """

    engine = ours.SGD

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        update: str = "stochastic",
        seed: int = 0,
        **refused: Any,
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "update": update,
            "seed": seed,
        }
        super().__init__(params, options, refused)

    def _numbers(self, group: Group) -> dict[str, Any]:
        return {**super()._numbers(group), "momentum": group["momentum"], "nesterov": group["nesterov"]}

    def _slots(self, group: Group) -> tuple[str, ...]:
        return ("momentum",) if group["momentum"] > 0 else ()


class Adam(Optimizer):
    """Adam on PyTorch's tensors, with moments that survive float16.

        m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2
        w = w - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: as in `Optimizer`: float16 or float32 tensors of any shape, or groups of them.
        lr: learning rate, finite, >= 0.
        betas: decay of the moments, each in [0, 1).
        eps: None means 1e-8, or 1e-3 for plain float16 state.
        weight_decay: L2 factor >= 0 added to the gradient.
        update: how a float16 weight is stored: "nearest", "stochastic", "kahan" or "master32"; with masters,
            the moments are float32 too.
        state: the form of float16 moments: "native" keeps sign(m) sqrt|m| and v^(1/4), rounded
            stochastically, "plain" the textbook's m and v.
        seed: of stochastic rounding, in [0, 2^64).
        refused: options of `torch.optim.Adam` that have no counterpart here.

    Rounding:
        As in `fp16engine.optim.Adam`.

    Raises:
        ValueError: a number is out of range, eps rounds to 0 in the state's dtype, or a tensor is of another
            dtype, device or layout.
        TypeError: an argument is of another type, or no option of this class.

    Source:
        `fp16engine.optim.Adam`.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> w = torch.ones(2, dtype=torch.float16, requires_grad=True)
    >>> w.grad = torch.tensor([0.0, 1e-4], dtype=torch.float16)
    >>> optimizer = fet.Adam([w], lr=0.125, update="nearest")
    >>> optimizer.step()
    >>> w.tolist(), sorted(optimizer.state[w])
    ([1.0, 0.875], ['m', 'step', 'v'])
    """

    engine: ClassVar[type[ours.Optimizer]] = ours.Adam

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
        weight_decay: float = 0.0,
        *,
        update: str = "stochastic",
        state: str = "native",
        seed: int = 0,
        **refused: Any,
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "update": update,
            "state": state,
            "seed": seed,
        }
        super().__init__(params, options, refused)

    def _numbers(self, group: Group) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        own = {"beta1": beta1, "beta2": beta2, "eps": group["eps"], "state_form": group["state"]}
        return {**super()._numbers(group), **own}


class AdamW(Adam):
    """Adam on PyTorch's tensors with decoupled weight decay.

        w = w - (lr * m' / (sqrt(v') + eps) + lr * weight_decay * w), m' and v' as in `Adam`

    Args:
        params: as in `Adam`, float16 or float32 tensors of any shape.
        lr: as in `Adam`.
        betas: as in `Adam`.
        eps: as in `Adam`.
        weight_decay: factor >= 0 on the weight itself.
        update: as in `Adam`.
        state: as in `Adam`.
        seed: as in `Adam`.
        refused: as in `Adam`.

    Rounding:
        As in `fp16engine.optim.AdamW`.

    Raises:
        ValueError: as `Adam`.
        TypeError: as `Adam`.

    Source:
        `fp16engine.optim.AdamW`.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> w = torch.ones(1, dtype=torch.float16, requires_grad=True)
    >>> fet.AdamW([w]).param_groups[0]["weight_decay"]
    0.01
    """

    engine = ours.AdamW

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
        weight_decay: float = 0.01,
        *,
        update: str = "stochastic",
        state: str = "native",
        seed: int = 0,
        **refused: Any,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, update=update, state=state, seed=seed, **refused
        )


class RMSprop(Optimizer):
    """RMSprop on PyTorch's tensors, which divides the gradient by the root of its averaged square.

        v = alpha * v + (1 - alpha) * g^2;  w = w - lr * g / (sqrt(v) + eps)
        with `momentum`: b = momentum * b + g / (sqrt(v) + eps);  w = w - lr * b

    Args:
        params: as in `Optimizer`: float16 or float32 tensors of any shape, or groups of them.
        lr: learning rate, finite, >= 0.
        alpha: decay of the squared gradient, in [0, 1).
        eps: None means 1e-8, or 1e-3 for plain float16 state.
        weight_decay: L2 factor >= 0 added to the gradient.
        momentum: in [0, 1).
        update: how a float16 weight is stored: "nearest", "stochastic", "kahan" or "master32"; with masters,
            the state is float32 too.
        state: the form of float16 state, "native" or "plain"; see `Adam`.
        seed: of stochastic rounding, in [0, 2^64).
        refused: options of `torch.optim.RMSprop` that have no counterpart here.

    Rounding:
        As in `fp16engine.optim.RMSprop`.

    Raises:
        ValueError: a number is out of range, eps rounds to 0 in the state's dtype, or a tensor is of another
            dtype, device or layout.
        TypeError: an argument is of another type, or no option of this class.

    Source:
        `fp16engine.optim.RMSprop`.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> w = torch.ones(1, dtype=torch.float16, requires_grad=True)
    >>> fet.RMSprop([w]).param_groups[0]["alpha"]
    0.99
    """

    engine = ours.RMSprop

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float | None = None,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        *,
        update: str = "stochastic",
        state: str = "native",
        seed: int = 0,
        **refused: Any,
    ) -> None:
        options = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "update": update,
            "state": state,
            "seed": seed,
        }
        super().__init__(params, options, refused)

    def _numbers(self, group: Group) -> dict[str, Any]:
        own = {name: group[name] for name in ("alpha", "eps", "momentum")}
        return {**super()._numbers(group), **own, "state_form": group["state"]}

    def _slots(self, group: Group) -> tuple[str, ...]:
        return ("v", "momentum") if group["momentum"] > 0 else ("v",)
