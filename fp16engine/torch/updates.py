"""What a step of any of PyTorch's optimizers did to the weights of a model: how many updates were lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .. import optim as ours
from ..numerics.stagnation import Meter, Updates
from .optimizer import Optimizer


class StepMeter:
    """Looks at one step of an optimizer; `updates` has what it did, by layer.

    One of ours counts in its kernels and says how large each change was. Of another, an update counts where
    the gradient is not 0, and as lost where the weight stayed.

    optimizer: the one that is about to step; names: the path of each parameter, by its identity.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> None:
        self._optimizer, self._names = optimizer, names
        self.updates: dict[str, Updates] = {}
        scale = getattr(optimizer, "grad_scale", None)  # from torch.amp.GradScaler, also of a step it skips
        self.loss_scale = 1.0 if scale is None else float(scale)
        self._before: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        if isinstance(optimizer, Optimizer):
            optimizer.around = self._around
            return
        for group in optimizer.param_groups:
            own = [p for p in group["params"] if id(p) in names and p.grad is not None]
            self._before += [(p, p.detach().clone(), p.grad != 0) for p in own]

    def finish(self) -> list[Updates]:
        """Stop looking, after the step; return what it did, in the order of the parameters."""
        if isinstance(self._optimizer, Optimizer):
            self._optimizer.around = None
        for p, old, moving in self._before:
            layer = layer_of(self._names[id(p)])
            row = self.updates.setdefault(layer, Updates(layer))
            row.matrix = row.matrix or p.ndim > 1
            row.nonzero += int(moving.sum())
            row.lost += int((moving & (p.detach() == old)).sum())
        return list(self.updates.values())

    def _around(self, over: ours.Optimizer, params: list[torch.Tensor], factor: float) -> None:
        self.loss_scale = 1.0 / factor
        names = [self._names.get(id(p), "(other)") for p in params]
        meter = Meter(over, names, factor)
        over.step(factor, count=True)
        meter.after(self.updates)
        for name, p in zip(names, params, strict=True):  # whose arrays are flat
            self.updates[layer_of(name)].matrix |= p.ndim > 1


def update_of(optimizer: torch.optim.Optimizer) -> str:
    """Return how an optimizer stores new weights: "nearest" if any group does.

    >>> w = torch.ones(1, dtype=torch.float16, requires_grad=True)
    >>> update_of(torch.optim.SGD([w], lr=1.0))
    'nearest'
    """
    forms: list[Any] = [group.get("update", "nearest") for group in optimizer.param_groups]
    return "nearest" if "nearest" in forms else str(forms[0])


def layer_of(path: str) -> str:
    """Return the layer that a parameter belongs to.

    >>> layer_of("blocks.0.weight"), layer_of("scale")
    ('blocks.0', 'scale')
    """
    return path.rpartition(".")[0] or path
