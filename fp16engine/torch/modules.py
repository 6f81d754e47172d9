"""What the instruments do with any PyTorch module: follow which part runs, and leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from ..numerics.watch import MODEL


class RunningLayers:
    """Follows which module of a model runs.

    >>> layers, model = RunningLayers(), torch.nn.Sequential(torch.nn.ReLU())
    >>> seen = []
    >>> _ = model[0].register_forward_hook(lambda *_: seen.append(layers.innermost("outside")))
    >>> with layers.hooks(model):
    ...     _ = model(torch.zeros(1))
    >>> seen, layers.innermost("outside")
    (['0'], 'outside')
    """

    def __init__(self) -> None:
        self._paths: list[str] = []

    def innermost(self, outside: str) -> str:
        """Return the path of the innermost module that runs, or `outside` where none does."""
        return self._paths[-1] if self._paths else outside

    @contextmanager
    def hooks(self, model: torch.nn.Module) -> Iterator[None]:
        """Follow a model in the block."""
        with ExitStack() as stack:
            for path, module in model.named_modules():
                enter = partial(self._enter, path or MODEL)
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(self._leave, always_call=True).remove)
            yield

    def _enter(self, path: str, module: torch.nn.Module, args: Any) -> None:
        self._paths.append(path)

    def _leave(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        self._paths.pop()


@contextmanager
def buffers_kept(model: torch.nn.Module) -> Iterator[None]:
    """Put a module's buffers back after the block.

    >>> norm = torch.nn.BatchNorm1d(2)
    >>> with buffers_kept(norm):
    ...     _ = norm(torch.ones(4, 2))
    >>> int(norm.num_batches_tracked)
    0
    """
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for b, value in buffers:
                b.copy_(value)


def random_states() -> list[torch.Tensor]:
    """Return the states of the generators of the CPU and of every GPU in use.

    >>> torch.equal(random_states()[0], torch.random.get_rng_state())
    True
    """
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.random.get_rng_state(), *gpus]
