"""Every backend call of a step with its layer and phase: what monitor, strict audit and replay see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..observer import BackendCall, observe

LOSS = "loss"  # what the loss is called among the layers
MODEL = "(model)"  # operations of the network itself, outside every layer

FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"


class Call(NamedTuple):
    """One backend call: the path of the layer ("" outside the model), the phase, the operation."""

    layer: str
    phase: str
    op: str


Around = Callable[[Call, BackendCall], Any]


@dataclass
class Watch:
    """What is being watched; its owner sets `phase` as the step continues."""

    phase: str = FORWARD


@contextmanager
def watch(model: Any, around: Around) -> Iterator[Watch]:
    """Call `around(call, backend_call)` in place of every backend method while the block runs; see `observe`.

    A call of the backward pass belongs to the layer whose forward pass made it necessary.

    >>> import fp16engine as fe
    >>> model = fe.nn.Sequential(fe.nn.Flatten(), fe.nn.Linear(4, 2))
    >>> seen = []
    >>> def around(call, backend_call):
    ...     seen.append(call)
    ...     return backend_call.run()
    >>> _ = model.to("reference", "fp16")
    >>> with watch(model, around):
    ...     y = model(fe.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]], "float16", "reference"))
    >>> seen[-1]
    Call(layer='1', phase='forward', op='linear_forward')
    """
    state = Watch()
    paths = {id(module): path or MODEL for path, module in model.named_modules()}

    def seen(call: BackendCall) -> Any:
        inner = (paths[id(layer)] for layer in reversed(call.layers) if id(layer) in paths)
        return around(Call(next(inner, _outside(call.op)), state.phase, call.op), call)

    with observe(seen):
        yield state


def _outside(op: str) -> str:
    return LOSS if op.startswith("cross_entropy") else ""
