"""Memory of a recorded step: one block, in which every array has a slot that was planned beforehand.

A step that was recorded once and is replayed writes to the same memory every time, so that memory belongs to
it alone. The step runs once under a `Trace`, which notes when each array comes and goes; `plan` gives every
array a slot such that arrays alive at the same time do not overlap; an `Arena` hands these slots out in the
same order while the step is recorded, and refuses a step that does not repeat itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import CaptureError

ALIGNMENT = 256  # what the CUDA allocator gives, and cuDNN and vector loads count on


def _padded(nbytes: int) -> int:
    return max(-(-nbytes // ALIGNMENT), 1) * ALIGNMENT


class _Watched:
    """Calls `release` with an allocation's number when the object that stands for its memory is gone."""

    def __init__(self) -> None:
        self._watched: dict[int, weakref.ref[Any]] = {}

    def watch(self, owner: Any, number: int) -> None:
        """Take the end of `owner` for the end of allocation `number`."""
        self._watched[number] = weakref.ref(owner, lambda _: self._gone(number))

    def _gone(self, number: int) -> None:
        if self._watched.pop(number, None) is not None:
            self.release(number)

    def release(self, number: int) -> None:
        raise NotImplementedError


class Trace(_Watched):
    """The sizes of a step's arrays, and between which allocations each was alive."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._ends: dict[int, int] = {}
        self._open = True

    def allocate(self, nbytes: int) -> int:
        """Note an allocation and return its number."""
        self.sizes.append(_padded(nbytes))
        return len(self.sizes) - 1

    def release(self, number: int) -> None:
        """Note that an allocation is gone: its memory serves those that come later."""
        if self._open:
            self._ends[number] = len(self.sizes)

    def close(self) -> list[tuple[int, int, int]]:
        """End the trace; (size, first, end) per allocation: alive from number `first` to before `end`."""
        self._open = False
        never = len(self.sizes)
        return [(size, i, self._ends.get(i, never)) for i, size in enumerate(self.sizes)]


@dataclass(frozen=True)
class Plan:
    """Where each allocation of a step lies: its size and offset by number, and the bytes of all together.

    `least` is the most that is alive at one time: no plan needs fewer bytes.
    """

    sizes: tuple[int, ...]
    offsets: tuple[int, ...]
    nbytes: int
    least: int


def plan(lifetimes: Sequence[tuple[int, int, int]]) -> Plan:
    """Place allocations (size, first, end) in one block, largest first, each in the smallest gap that fits.

    Greedy by size (Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020), with
    best fit. The same lifetimes give the same slots.
    """
    count = len(lifetimes)
    sizes = np.array([size for size, _, _ in lifetimes], np.int64)
    first = np.array([start for _, start, _ in lifetimes], np.int64)
    end = np.array([stop for _, _, stop in lifetimes], np.int64)
    offsets = np.zeros(count, np.int64)
    placed = np.zeros(count, bool)
    # of equal sizes, the one that lives longest has the fewest slots to fit
    for i in sorted(range(count), key=lambda i: (-sizes[i], first[i] - end[i], i)):
        overlapping = np.flatnonzero(placed & (first < end[i]) & (end > first[i]))
        offsets[i] = _gap(offsets[overlapping], sizes[overlapping], int(sizes[i]))
        placed[i] = True
    changes = np.zeros(count + 1, np.int64)
    np.add.at(changes, first, sizes)
    np.subtract.at(changes, end, sizes)
    return Plan(
        tuple(map(int, sizes)),
        tuple(map(int, offsets)),
        int((offsets + sizes).max(initial=0)),
        int(changes.cumsum().max(initial=0)),
    )


def _gap(offsets: np.ndarray, sizes: np.ndarray, size: int) -> int:
    """The start of the smallest free gap of at least `size` bytes between blocks, else behind them all."""
    order = np.argsort(offsets, kind="stable")
    starts = offsets[order]
    ends = np.maximum.accumulate(starts + sizes[order]) if len(order) else starts
    before = np.concatenate(([0], ends))[: len(starts)]
    gaps = starts - before
    fits = np.flatnonzero(gaps >= size)
    if not len(fits):
        return int(ends[-1]) if len(ends) else 0
    return int(before[fits[np.argmin(gaps[fits])]])


@dataclass
class Arena(_Watched):
    """Hands out the slots of a plan, in order; `memory` is what the device keeps under them."""

    plan: Plan
    memory: Any
    _next: int = 0
    _alive: dict[int, tuple[int, int]] = field(default_factory=dict)
    _open: bool = True

    def __post_init__(self) -> None:
        super().__init__()

    def allocate(self, nbytes: int) -> tuple[int, int]:
        """Return the number and the offset of the next allocation.

        Raises:
            CaptureError: the step asks for other memory than it did when it was traced, or for a slot that
                is still in use.
        """
        number, size = self._next, _padded(nbytes)
        if number >= len(self.plan.sizes) or self.plan.sizes[number] != size:
            raise CaptureError(
                "the step asked for other memory than the time before: its operations change from run to run"
            )
        start = self.plan.offsets[number]
        for other_start, other_end in self._alive.values():
            if start < other_end and other_start < start + size:
                raise CaptureError("the step kept an array longer than the time before")
        self._alive[number] = start, start + size
        self._next += 1
        return number, start

    def release(self, number: int) -> None:
        """Let the memory of an allocation serve those that come later."""
        if self._open:
            self._alive.pop(number, None)

    def close(self) -> None:
        """End the recording: from now on the memory is as it is.

        Raises:
            CaptureError: the step asked for less memory than it did when it was traced.
        """
        self._open = False
        if self._next != len(self.plan.sizes):
            raise CaptureError(
                "the step asked for less memory than the time before: its operations change from run to run"
            )
