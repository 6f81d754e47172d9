"""Lookahead: every few steps weights and running statistics are drawn to a slow average of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from ..backend.base import StepScalars
from ..floats import is_float
from ..tensor import Tensor
from ..validate import must_be

if TYPE_CHECKING:
    from .state import TrainState

Array = Any
BASE = 0.95  # of the average's share: BASE^every at the end of training


class Lookahead:
    """The slow average of everything in a state that has digits.

    Args:
        state: whose weights (their FP32 masters, where there are some) and running statistics are averaged.
        every: applied steps from one pull to the next, >= 1.

    A pull with share d makes slow = d * slow + (1 - d) * fast, then fast = slow: one FP32 register, one
    rounding to the dtype of the tensor. Compensations of the weights become 0.

    Source:
        Zhang et al., 2019, arXiv 1907.08610; the share d and the running statistics are airbench94's.

    >>> import fp16engine as fe
    >>> model = fe.models.create("dnn", image_size=8, channels=1)
    >>> trainer = fe.Trainer(model, refinements={"lookahead": 5})
    >>> trainer.state.lookahead.share(done=50, total=100) == 0.95**5 / 8
    True
    """

    def __init__(self, state: TrainState, every: int) -> None:
        self.every = every
        self._state, self._backend = state, backends.get(state.device)
        self.restart()

    def restart(self) -> None:
        """Begin with the weights and running statistics as they are now."""
        self._slow = {name: self._backend.copy(fast) for name, _, fast in self._fast()}

    def share(self, done: int, total: int) -> float:
        """Return the average's share d in the pull after `done` of `total` applied steps."""
        return float(BASE**self.every * min(1.0, done / total) ** 3)

    def after_step(self, done: int, total: int) -> None:
        """Pull where it is due after the applied step number `done`, from 1, of `total`."""
        if done % self.every == 0:
            self.pull(self.share(done, total))

    def pull(self, share: float) -> None:
        """Move the average by 1 - share of the way, and weights and running statistics to the average."""
        backend, optimizer = self._backend, self._state.optimizer
        groups: dict[str, list[tuple[Array, Array]]] = {}
        for name, _, fast in self._fast():
            groups.setdefault(str(fast.dtype), []).append((self._slow[name], fast))
        for pairs in groups.values():
            backend.sgd(
                params=[slow for slow, _ in pairs],
                grads=[fast for _, fast in pairs],
                momenta=None,
                masters=None,
                compensations=None,
                momentum=0.0,
                nesterov=False,
                weight_decay=[-1.0] * len(pairs),  # slow + (1 - d) * (fast - slow)
                stochastic=False,
                indices=list(range(len(pairs))),
                scalars=StepScalars(lr=share - 1.0),
                counts=None,
            )
        for i, (name, parameter) in enumerate(self._state.parameters):
            copy = backend.copy(self._slow[name])
            if optimizer.masters[i] is not None:
                optimizer.masters[i] = copy
                copy = self._rounded(copy, parameter.dtype)
            parameter.data = copy
        for name, buffer in self._averages():
            buffer.data = backend.copy(self._slow[name])
        optimizer.compensations = [backend.zeros(c.shape, str(c.dtype)) for c in optimizer.compensations]

    def _rounded(self, master: Array, dtype: str) -> Array:
        """Return a parameter of a master, by a step of SGD that changes nothing."""
        zeros = [self._backend.zeros(master.shape, dtype) for _ in range(2)]
        self._backend.sgd(
            params=zeros[:1],
            grads=zeros[1:],
            momenta=None,
            masters=[master],
            compensations=None,
            momentum=0.0,
            nesterov=False,
            weight_decay=[0.0],
            stochastic=False,
            indices=[0],
            scalars=StepScalars(lr=0.0),
            counts=None,
        )
        return zeros[0]

    def arrays(self) -> Iterator[tuple[str, Tensor, Array]]:
        """Yield (path, tensor, its slow average) of every tensor that has one."""
        return ((name, tensor, self._slow[name]) for name, tensor, _ in self._fast())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of the averages by path, on the host."""
        return {name: np.array(self._backend.to_numpy(array)) for name, array in self._slow.items()}

    def load_state_dict(self, stored: Mapping[str, np.ndarray]) -> None:
        """Take over what `state_dict` returned; nothing changes when anything is wrong.

        Raises:
            ValueError: names, shapes or dtypes are others.
        """
        ours = {name: (tuple(a.shape), str(a.dtype)) for name, a in self._slow.items()}
        theirs = {name: (a.shape, str(a.dtype)) for name, a in stored.items()}
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                raise ValueError(
                    must_be(f"lookahead: {name!r}", str(ours.get(name, "absent")), theirs.get(name))
                )
        self._slow = {
            name: self._backend.from_numpy(np.ascontiguousarray(stored[name])) for name in self._slow
        }

    def _fast(self) -> Iterator[tuple[str, Tensor, Array]]:
        """Yield (path, tensor, what is averaged): parameters, in the optimizer's order, then running
        statistics."""
        state = self._state
        for (name, p), master in zip(state.parameters, state.optimizer.masters, strict=True):
            yield name, p, p.data if master is None else master
        for name, buffer in self._averages():
            yield name, buffer, buffer.data

    def _averages(self) -> list[tuple[str, Tensor]]:
        return [(name, buffer) for name, buffer in self._state.buffers if is_float(buffer.dtype)]
