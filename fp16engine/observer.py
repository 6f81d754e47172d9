"""The hook for instruments: every backend call of a piece of code, and the layer that makes it.

`backend.get`, from which `Function.apply` and everyone else has a backend, hands out a proxy where somebody
observes. A node of the tape keeps the one it was given, so its gradient is seen as that of the layer which
recorded it. What a context observes is its own (see `contextvars`): calls of other threads are not seen.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self


class BackendCall(NamedTuple):
    """A call of a backend method, before it runs.

    Args:
        op: the method's name.
        method: what is called.
        args: its arguments by position.
        kwargs: its arguments by name.
        layers: the modules whose `forward` was running when the caller got the backend, the outermost first.

    >>> BackendCall("add", lambda a, b: a + b, (1,), {"b": 2}, ()).run()
    3
    """

    op: str
    method: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    layers: tuple[Any, ...]

    def run(self) -> Any:
        """Run the method and return its result.

        >>> BackendCall("add", lambda a, b: a + b, (1,), {"b": 2}, ()).run()
        3
        """
        return self.method(*self.args, **self.kwargs)

    def named_arguments(self) -> dict[str, Any]:
        """Return the arguments by name, defaults included; arg0, arg1, … where names are unknown.

        >>> BackendCall("add", lambda a, b=2: a + b, (1,), {}, ()).named_arguments()
        {'a': 1, 'b': 2}
        """
        try:
            signature = inspect.signature(self.method)
        except (TypeError, ValueError):  # a compiled function without a text signature
            return {**{f"arg{i}": value for i, value in enumerate(self.args)}, **self.kwargs}
        bound = signature.bind(*self.args, **self.kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)


Around = Callable[[BackendCall], Any]


@contextmanager
def observe(around: Around) -> Iterator[None]:
    """Call an instrument in place of every backend method inside a `with` block.

    Args:
        around: takes a `BackendCall` and returns what the caller is to get, as `call.run()` does. Blocks
            nest: the innermost sees a call first, and its `call.run()` is what the next one sees.

    >>> import fp16engine as fe
    >>> seen = []
    >>> def around(call):
    ...     seen.append((call.op, len(call.layers)))
    ...     return call.run()
    >>> model = fe.nn.Sequential(fe.nn.Linear(2, 1)).to("reference")
    >>> x = fe.tensor([[1.0, 2.0]], device="reference")
    >>> with observe(around):
    ...     y = model(x)
    >>> seen
    [('linear_forward', 2)]
    """
    token = _observed.set(_Observation(around, _observed.get()))
    try:
        yield
    finally:
        _observed.reset(token)


class Observer:
    """A `with` block in which the method `around` of a subclass observes; see `observe`.

    >>> import fp16engine as fe
    >>> class Names(Observer):
    ...     def __init__(self):
    ...         self.names = []
    ...     def around(self, call):
    ...         self.names.append(call.op)
    ...         return call.run()
    >>> x = fe.tensor([1.0, 2.0], device="reference")
    >>> with Names() as names:
    ...     y = x.sum()
    >>> names.names
    ['sum']
    """

    _block: AbstractContextManager[None] | None = None

    def around(self, call: BackendCall) -> Any:
        """Return what the caller of a backend method is to get; a subclass defines it.

        Args:
            call: what is called.

        Raises:
            NotImplementedError: the class defines no `around`.

        >>> Observer().around(BackendCall("add", max, (1, 2), {}, ()))
        Traceback (most recent call last):
        NotImplementedError
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._block = observe(self.around)
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._block is not None:
            self._block.__exit__(kind, error, trace)
            self._block = None


def observed() -> bool:
    """Tell whether somebody observes this context.

    >>> observed()
    False
    """
    return _observed.get() is not None


def visible(backend: Any) -> Any:
    """Return the backend as this context gets it: itself, or behind a proxy for each observer."""
    observation = _observed.get()
    return backend if observation is None else observation.proxy(backend)


@contextmanager
def running(layer: Any) -> Iterator[None]:
    """Count the backend calls of the block, and the gradients of what it records, among those of `layer`."""
    token = _layers.set((*_layers.get(), layer))
    try:
        yield
    finally:
        _layers.reset(token)


def arrays_in(value: Any) -> Iterator[Any]:
    """Yield the arrays in a value: the value itself, or those in its (nested) lists and tuples."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from arrays_in(item)
    elif hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, np.generic):
        yield value


class _Observation:
    """One `observe` block inside another, or inside none, and the proxies it has handed out."""

    def __init__(self, around: Around, outer: _Observation | None) -> None:
        self._around, self._outer = around, outer
        self._proxies: dict[tuple[int, tuple[Any, ...]], _Proxy] = {}

    def proxy(self, backend: Any) -> _Proxy:
        target = backend if self._outer is None else self._outer.proxy(backend)
        layers = _layers.get()
        key = id(target), layers
        if key not in self._proxies:
            self._proxies[key] = _Proxy(target, self._around, layers)
        return self._proxies[key]


class _Proxy:
    """Has the attributes of a backend, and gives each method call to `around`."""

    def __init__(self, target: Any, around: Around, layers: tuple[Any, ...]) -> None:
        self._target, self._around, self._layers = target, around, layers

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if name.startswith("_") or not callable(value):
            return value
        around, layers = self._around, self._layers

        def call(*args: Any, **kwargs: Any) -> Any:
            return around(BackendCall(name, value, args, kwargs, layers))

        call.__wrapped__ = value  # type: ignore[attr-defined]  # inspect.signature looks through it
        setattr(self, name, call)
        return call


_observed: ContextVar[_Observation | None] = ContextVar("fp16engine_observed", default=None)
_layers: ContextVar[tuple[Any, ...]] = ContextVar("fp16engine_layers", default=())
