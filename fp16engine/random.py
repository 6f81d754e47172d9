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

from .validate import integer, must_be

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
    """Return `seed` as an int.

    Args:
        seed: an integer in [0, 2^64), NumPy's included.

    Raises:
        TypeError: `seed` is no integer.
        ValueError: `seed` is out of range.

    >>> checked_seed(7)
    7
    """
    return integer("seed", seed, 0, 2**64 - 1)


def manual_seed(seed: int) -> None:
    """Start all random streams of this thread (initial weights, dropout) afresh.

    Args:
        seed: an integer in [0, 2^64). Given in the main thread, it is the seed of threads that start later
            too, until they call this themselves.

    Raises:
        TypeError: `seed` is no integer.
        ValueError: `seed` is out of range.

    >>> import fp16engine as fe
    >>> def drawn():
    ...     fe.manual_seed(7)
    ...     return fe.random.generator().random()
    >>> drawn() == drawn()
    True
    """
    global _initial
    state = _State(checked_seed(seed))
    _current.set(state)
    if threading.current_thread() is threading.main_thread():
        _initial = state


def generator() -> np.random.Generator:
    """Return the next independent generator: Philox with key (seed, number of generators before it).

    Source:
        Salmon et al., 2011 (Philox).

    >>> manual_seed(7)
    >>> first, second = generator(), generator()
    >>> first.random() == second.random()
    False
    """
    import numpy as np

    state = _state()
    _current.set(state._replace(stream=state.stream + 1))
    return np.random.Generator(np.random.Philox(key=np.array([state.seed, state.stream], np.uint64)))


def dropout_counter(n: int) -> tuple[int, int]:
    """Return (seed, offset) for a mask of `n` elements, and use up the ceil(n / 4) counters from offset on.

    Args:
        n: number of elements, >= 0.

    >>> manual_seed(7)
    >>> dropout_counter(5), dropout_counter(1)
    ((7, 0), (7, 2))
    """
    state = _state()
    _current.set(state._replace(dropout=state.dropout + (n + 3) // 4))
    return state.seed, state.dropout


def get_state() -> dict[str, int]:
    """Return the whole state of this thread: three integers, fit for JSON.

    >>> manual_seed(7)
    >>> get_state()
    {'seed': 7, 'stream': 0, 'dropout': 0}
    """
    return _state()._asdict()


def set_state(state: Mapping[str, int]) -> None:
    """Restore what `get_state` returned, in this thread.

    Args:
        state: "seed", "stream" and "dropout", integers >= 0.

    Raises:
        TypeError: a field is no integer.
        ValueError: a field is missing, unknown or below 0.

    >>> manual_seed(7)
    >>> state = get_state()
    >>> dropout_counter(4)
    (7, 0)
    >>> set_state(state)
    >>> dropout_counter(4)
    (7, 0)
    """
    if sorted(state) != sorted(_State._fields):
        raise ValueError(must_be("state", f"a table of {', '.join(_State._fields)}", sorted(state)))
    for name in _State._fields:
        integer(f"state[{name!r}]", state[name], 0)
    _current.set(_State(**state))


@contextmanager
def fork(seed: int) -> Iterator[None]:
    """Seed this thread inside a `with` block and restore the outer state after it.

    Args:
        seed: an integer in [0, 2^64).

    Raises:
        TypeError: `seed` is no integer.
        ValueError: `seed` is out of range.

    >>> manual_seed(7)
    >>> with fork(1):
    ...     get_state()["seed"]
    1
    >>> get_state()["seed"]
    7
    """
    token = _current.set(_State(checked_seed(seed)))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def using(state: Mapping[str, int]) -> Iterator[None]:
    """Continue from a state inside a `with` block, and restore the outer state after it.

    Args:
        state: what `get_state` returned.

    Raises:
        ValueError: a field is missing, unknown, or no integer >= 0.

    >>> manual_seed(7)
    >>> with using({"seed": 1, "stream": 0, "dropout": 5}):
    ...     dropout_counter(4)
    (1, 5)
    >>> dropout_counter(4)
    (7, 0)
    """
    outer = _current.get()
    try:
        set_state(state)
        yield
    finally:
        _current.set(outer)


def _state() -> _State:
    return _current.get() or _initial
