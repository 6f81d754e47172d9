"""Seeded randomness: counters instead of hidden state, so that a stopped run resumes bit for bit.

Every thread has a state of its own (a context variable): what one draws, seeds or forks moves no other's. A
thread that has not called `manual_seed` starts from the seed that the main thread gave last, so threads that
are to draw different numbers need seeds of their own. A `Trainer` and `models.create` bring their own seed,
and depend on no thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class _State(NamedTuple):
    """What the next draw depends on; never changed in place, so that a copied context keeps its own."""

    seed: int = 0
    stream: int = 0
    dropout: int = 0


_current: ContextVar[_State | None] = ContextVar("fp16engine_random", default=None)
_initial = _State()  # of a thread that has drawn and seeded nothing yet


def checked_seed(seed: int) -> int:
    """Return `seed` as an int in [0, 2**64); TypeError or ValueError for anything else."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"seed: {seed!r} given, an integer is wanted")
    seed = seed.__index__()
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: {seed} given, an integer in [0, 2**64) is wanted")
    return seed


def manual_seed(seed: int) -> None:
    """Start all random streams (initial weights, dropout) of this thread afresh from `seed` in [0, 2**64).

    Called in the main thread it is the seed of threads that start later too, until they call it themselves.

    Raises:
        TypeError, ValueError: `seed` is no such integer.
    """
    global _initial
    state = _State(checked_seed(seed))
    _current.set(state)
    if threading.current_thread() is threading.main_thread():
        _initial = state


def generator() -> np.random.Generator:
    """Return the next independent generator: Philox with key (seed, number of generators before it)."""
    import numpy as np

    state = _state()
    _current.set(state._replace(stream=state.stream + 1))
    return np.random.Generator(np.random.Philox(key=np.array([state.seed, state.stream], np.uint64)))


def dropout_counter(n: int) -> tuple[int, int]:
    """Return (seed, offset) for a dropout mask of `n` elements and move on by the ceil(n/4) counters used."""
    state = _state()
    _current.set(state._replace(dropout=state.dropout + (n + 3) // 4))
    return state.seed, state.dropout


def get_state() -> dict[str, int]:
    """Return the whole state of this thread: three integers, fit for JSON."""
    return _state()._asdict()


def set_state(state: Mapping[str, int]) -> None:
    """Restore what `get_state` returned, in this thread.

    Raises:
        ValueError: a field is missing, unknown, or no integer >= 0.
    """
    if sorted(state) != sorted(_State._fields):
        raise ValueError(f"state: keys {sorted(state)} given, {sorted(_State._fields)} are wanted")
    for name in _State._fields:
        if not isinstance(state[name], int) or state[name] < 0:
            raise ValueError(f"state: {name}={state[name]!r} given, an integer >= 0 is wanted")
    _current.set(_State(**state))


@contextmanager
def fork(seed: int) -> Iterator[None]:
    """Seed inside a `with` block and restore the outer state after it."""
    token = _current.set(_State(checked_seed(seed)))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def using(state: Mapping[str, int]) -> Iterator[None]:
    """Continue from `state`, which `get_state` returned, inside a `with` block; restore the outer one after.

    Raises ValueError as `set_state` does.
    """
    outer = _current.get()
    try:
        set_state(state)
        yield
    finally:
        _current.set(outer)


def _state() -> _State:
    return _current.get() or _initial
