"""When a step of a model is over that several optimizers take together."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakSet

import torch


class Turns:
    """Follows which optimizers have stepped: a step of the model is one of each that stepped in its last one.

    The first one is of as many as hold all parameters with a gradient. An optimizer that steps once more
    begins the next step, whoever else is missing.

    parameters: of the model.

    >>> a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    >>> a.grad = b.grad = torch.ones(1)
    >>> first, second = torch.optim.SGD([a]), torch.optim.SGD([b])
    >>> turns = Turns([a, b])
    >>> turns.took(first), turns.took(second)
    (False, True)
    """

    def __init__(self, parameters: Iterable[torch.Tensor]) -> None:
        self._parameters = list(parameters)
        self._known: WeakSet[torch.optim.Optimizer] = WeakSet()
        self.stepped: list[torch.optim.Optimizer] = []

    @property
    def learning(self) -> bool:
        """Whether it is not known yet which optimizers there are."""
        return not self._known

    def took(self, optimizer: torch.optim.Optimizer) -> bool:
        """Note a step of an optimizer; return whether the model's step is over."""
        self.stepped.append(optimizer)
        if not self.learning:
            return all(known in self.stepped for known in self._known)
        held = {id(p) for one in self.stepped for group in one.param_groups for p in group["params"]}
        return all(p.grad is None or id(p) in held for p in self._parameters)

    def end(self) -> None:
        """Begin the next step."""
        self._known = WeakSet(self.stepped)
        self.stepped = []
