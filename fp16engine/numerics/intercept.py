"""Look at every backend call of a piece of code, from outside: the hook under the audit and the timer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends

if TYPE_CHECKING:
    from typing_extensions import Self

Around = Callable[[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class _Proxy:
    """Stands in for a backend and hands each method call to `around`."""

    def __init__(self, target: Any, around: Around) -> None:
        self._target = target
        self._around = around

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if name.startswith("_") or not callable(value):
            return value
        around = self._around

        def call(*args: Any, **kwargs: Any) -> Any:
            return around(name, value, args, kwargs)

        call.__wrapped__ = value  # type: ignore[attr-defined]  # inspect.signature looks through it
        setattr(self, name, call)
        return call


@contextmanager
def intercept(around: Around) -> Iterator[None]:
    """Call `around(op, method, args, kwargs)` in place of every backend method while the block runs.

    `around` calls `method(*args, **kwargs)` itself and returns what the caller is to get. Blocks nest:
    the innermost sees a call first. Calls of other threads are not seen.
    """
    previous = backends._wrap.get()
    proxies: dict[int, _Proxy] = {}

    def wrap(target: Any) -> Any:
        inner = previous(target) if previous else target
        return proxies.setdefault(id(inner), _Proxy(inner, around))

    token = backends._wrap.set(wrap)
    try:
        yield
    finally:
        backends._wrap.reset(token)


class Interception:
    """A `with` block in which `_around` of a subclass sees every backend call."""

    _context: AbstractContextManager[None] | None = None

    def __enter__(self) -> Self:
        self._context = intercept(self._around)
        self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._context is not None:
            self._context.__exit__(kind, error, trace)
            self._context = None

    def _around(
        self, op: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        raise NotImplementedError


def _signature(method: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(method)
    except (TypeError, ValueError):  # a compiled function without a text signature
        return None


def named_arguments(
    method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by name, defaults included; arg0, arg1, … where names are unknown."""
    signature = _signature(method)
    if signature is None:
        return {**{f"arg{i}": value for i, value in enumerate(args)}, **kwargs}
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def arrays_in(value: Any) -> Iterator[Any]:
    """Yield the arrays in a value: the value itself, or those in its (nested) lists and tuples."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from arrays_in(item)
    elif hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, np.generic):
        yield value
