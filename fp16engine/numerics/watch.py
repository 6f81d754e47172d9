"""Every backend call of a step with its layer and phase: what monitor, strict audit and replay see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .. import backend as backends
from ..nn import module as modules
from .intercept import _Proxy

LOSS = "loss"  # what the loss is called beside the layers
MODEL = "(model)"  # operations of the network itself, outside every layer

FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"


class Call(NamedTuple):
    """One backend call: the path of the layer ("" outside the model), the phase, the operation."""

    layer: str
    phase: str
    op: str


Around = Callable[[Call, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class Watch:
    """What is being watched; its owner sets `phase` as the step goes on."""

    def __init__(self, model: Any) -> None:
        self.phase = FORWARD
        self.layer = ""
        self._paths = {id(module): path or MODEL for path, module in model.named_modules()}

    @contextmanager
    def entering(self, module: Any) -> Iterator[None]:
        """A layer runs; what it computes belongs to it, layers inside it excepted."""
        outer = self.layer
        self.layer = self._paths.get(id(module), outer)
        try:
            yield
        finally:
            self.layer = outer


@contextmanager
def watch(model: Any, around: Around) -> Iterator[Watch]:
    """Call `around(call, method, args, kwargs)` in place of every backend method while the block runs.

    A call of the backward pass belongs to the layer whose forward pass made it necessary. `around` calls
    `method(*args, **kwargs)` itself and returns what the caller is to get. Calls of other threads are not
    seen.

    >>> import fp16engine as fe
    >>> model = fe.nn.Sequential(fe.nn.Flatten(), fe.nn.Linear(4, 2))
    >>> seen = []
    >>> def around(call, method, args, kwargs):
    ...     seen.append(call)
    ...     return method(*args, **kwargs)
    >>> _ = model.to("reference", "fp16")
    >>> with watch(model, around):
    ...     y = model(fe.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]], "float16", "reference"))
    >>> seen[-1]
    Call(layer='1', phase='forward', op='linear_forward')
    """
    state = Watch(model)
    outer_wrap = backends._wrap.get()
    proxies: dict[tuple[int, str], _Proxy] = {}

    def wrap(target: Any) -> Any:
        # A node of the tape keeps the backend it was given: a proxy per layer tells whose gradient it takes.
        inner = outer_wrap(target) if outer_wrap else target
        layer = state.layer

        def seen(op: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return around(Call(layer or _outside(op), state.phase, op), method, args, kwargs)

        return proxies.setdefault((id(inner), layer), _Proxy(inner, seen))

    wrapping, entering = backends._wrap.set(wrap), modules._entering.set(state.entering)
    try:
        yield state
    finally:
        modules._entering.reset(entering)
        backends._wrap.reset(wrapping)


def _outside(op: str) -> str:
    return LOSS if op.startswith("cross_entropy") else ""
