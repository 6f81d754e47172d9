"""Muon for half-precision parameters of PyTorch."""

from __future__ import annotations

from typing import Any

import torch

from .. import optim as ours
from ..validate import flag
from .arrays import array
from .optimizer import Group, Optimizer


class Muon(Optimizer):
    """Momentum on PyTorch's tensors, of whose matrices only the directions count; SGD for the others.

        m = momentum * m + g;  s = m, with `nesterov` g + momentum * m
        w = w - lr * sqrt(max(1, rows / columns)) * orthogonal(s) - lr * weight_decay * w

    Args:
        params: as in `Optimizer`: float16 or float32 tensors of any shape, or groups of them. A tensor of two
            axes or more is a matrix (rows, the rest), whose rows follow each other in memory, as they do in
            contiguous and in `channels_last` weights.
        lr: learning rate, finite, >= 0.
        momentum: of the matrices, in [0, 1).
        nesterov: needs momentum > 0.
        weight_decay: factor >= 0; decoupled for matrices, added to the gradient for the others.
        steps: of the Newton-Schulz iteration, >= 1; it runs in the tensor's dtype.
        unit_rows: scale each matrix to the norm sqrt(rows) in the step; it has no decay then.
        sgd_momentum: of the other tensors, in [0, 1); None means `momentum`.
        matrices: False for a group whose matrices step by SGD too, such as embeddings and the last layer.
        update: how a float16 weight is stored: "nearest", "stochastic", "kahan" or "master32".
        seed: of stochastic rounding, in [0, 2^64).
        refused: options of `torch.optim` that have no counterpart here.

    Rounding:
        As in `fp16engine.optim.Muon`.

    Raises:
        ValueError: a number is out of range, a tensor is of another dtype, device or layout, or the rows of a
            matrix do not follow each other.
        TypeError: an argument is of another type, or no option of this class.

    Source:
        `fp16engine.optim.Muon`.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> w = torch.eye(2, dtype=torch.float16).requires_grad_()
    >>> w.grad = torch.tensor([[300.0, 0.0], [0.0, 0.5]], dtype=torch.float16)
    >>> fet.Muon([w], lr=0.5, steps=12).step()
    >>> bool(((w.diagonal() - 0.5).abs() < 0.2).all())
    True
    """

    engine = ours.Muon

    def __init__(
        self,
        params: Any,
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        steps: int = 5,
        unit_rows: bool = False,
        sgd_momentum: float | None = None,
        *,
        matrices: bool = True,
        update: str = "stochastic",
        seed: int = 0,
        **refused: Any,
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "steps": steps,
            "unit_rows": unit_rows,
            "sgd_momentum": sgd_momentum,
            "matrices": matrices,
            "update": update,
            "seed": seed,
        }
        super().__init__(params, options, refused)

    def _check(self, group: Group) -> None:
        super()._check(group)
        flag("matrices", group["matrices"])
        for p in group["params"]:
            if _is_matrix(group, p) and p.numel() and p.stride(0) != p.numel() // p.shape[0]:
                raise ValueError(
                    f"params must have the rows of a matrix one after the other, got shape {tuple(p.shape)} "
                    f"with strides {p.stride()}"
                )

    def _arguments(self, group: Group) -> dict[str, Any]:
        return {name: value for name, value in super()._arguments(group).items() if name != "matrices"}

    def _numbers(self, group: Group) -> dict[str, Any]:
        own = {name: group[name] for name in ("momentum", "nesterov", "steps", "unit_rows")}
        others = group["momentum"] if group["sgd_momentum"] is None else group["sgd_momentum"]
        return {**super()._numbers(group), **own, "sgd_momentum": others}

    def _of_each(self, group: Group, params: list[torch.Tensor]) -> dict[str, Any]:
        return {"matrices": [_is_matrix(group, p) for p in params]}

    def _array(self, tensor: torch.Tensor) -> Any:
        flat = array(tensor)
        return flat.reshape(tensor.shape[0], -1) if tensor.ndim > 1 and tensor.numel() else flat


def _is_matrix(group: Group, p: torch.Tensor) -> bool:
    return bool(group["matrices"]) and p.ndim > 1
