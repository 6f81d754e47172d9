"""Seeded randomness: counters instead of hidden state, so that a stopped run resumes bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_FIELDS = ("seed", "stream", "dropout")
_state = {"seed": 0, "stream": 0, "dropout": 0}


def checked_seed(seed: int) -> int:
    """Return `seed` as an int in [0, 2**64); TypeError or ValueError for anything else."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"seed: {seed!r} given, an integer is wanted")
    seed = seed.__index__()
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: {seed} given, an integer in [0, 2**64) is wanted")
    return seed


def manual_seed(seed: int) -> None:
    """Start all random streams (initial weights, dropout) afresh from `seed`, an integer in [0, 2**64).

    Raises:
        TypeError, ValueError: `seed` is no such integer.
    """
    _state.update(seed=checked_seed(seed), stream=0, dropout=0)


def generator() -> np.random.Generator:
    """Return the next independent generator: Philox with key (seed, number of generators before it)."""
    import numpy as np

    stream = _state["stream"]
    _state["stream"] = stream + 1
    return np.random.Generator(np.random.Philox(key=np.array([_state["seed"], stream], np.uint64)))


def dropout_counter(n: int) -> tuple[int, int]:
    """Return (seed, offset) for a dropout mask of `n` elements and move on by the ceil(n/4) counters used."""
    offset = _state["dropout"]
    _state["dropout"] = offset + (n + 3) // 4
    return _state["seed"], offset


def get_state() -> dict[str, int]:
    """Return the whole state: three integers, fit for JSON."""
    return dict(_state)


def set_state(state: Mapping[str, int]) -> None:
    """Restore what `get_state` returned.

    Raises:
        ValueError: a field is missing, unknown, or no integer >= 0.
    """
    if sorted(state) != sorted(_FIELDS):
        raise ValueError(f"state: keys {sorted(state)} given, {sorted(_FIELDS)} are wanted")
    for name in _FIELDS:
        if not isinstance(state[name], int) or state[name] < 0:
            raise ValueError(f"state: {name}={state[name]!r} given, an integer >= 0 is wanted")
    _state.update(state)


@contextmanager
def fork(seed: int) -> Iterator[None]:
    """Seed inside a `with` block and restore the outer state after it."""
    outer = get_state()
    manual_seed(seed)
    try:
        yield
    finally:
        _state.update(outer)
