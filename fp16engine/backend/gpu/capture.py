"""Steps recorded once and replayed: what CUDA graphs and the simulator's recordings have in common."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ...errors import CaptureError
from ..base import Array
from ..compiled.device import Device
from .arena import Arena, Plan, Trace, plan


class Replayable(Protocol):
    """A recorded step. It owns its arena; the other arrays it works on are its maker's to keep."""

    arena_bytes: int

    @property
    def kernels(self) -> int:
        """How many kernels, copies and memsets one replay runs."""

    def replay(self) -> None:
        """Put one run of the step on the stream; returns without waiting where the device can."""


class Recordable(Device):
    # The control block of the captured step that runs or is recorded (train/captured.py), else None.
    control: Array | None = None
    # Where new arrays are noted or come from, other than the device's pool.
    _trace: Trace | None = None
    _arena: Arena | None = None

    def traced(self, step: Callable[[], None]) -> Plan:
        """Run `step` and return where the arrays it makes would lie in an arena of its own."""
        trace = Trace()
        self._trace = trace
        try:
            with _no_collection():
                step()
        finally:
            self._trace = None
            lifetimes = trace.close()
        return plan(lifetimes)

    def recorded(self, layout: Plan, step: Callable[[], None]) -> Replayable:
        """Record what `step` does, without running it, its arrays in an arena laid out by `layout`.

        Raises:
            CaptureError: the step cannot be recorded; nothing has run then.
        """
        arena = Arena(layout, self._arena_memory(layout.nbytes))
        with _no_collection():
            self._begin()
            self._arena, self.recording = arena, True
            try:
                step()
                arena.close()
            except Exception:
                self._end(failed=True)
                raise
            finally:
                self._arena, self.recording = None, False
        return self._finished(self._end(failed=False), arena)

    def _arena_memory(self, nbytes: int) -> Any:
        raise NotImplementedError

    def _begin(self) -> None:
        raise NotImplementedError

    def _end(self, failed: bool) -> Any:
        raise NotImplementedError

    def _finished(self, graph: Any, arena: Arena) -> Replayable:
        raise NotImplementedError

    def _not_while_recording(self, what: str) -> None:
        if self.recording:
            raise CaptureError(f"{what} while a step is recorded")


@contextmanager
def _no_collection() -> Iterator[None]:
    """Arrays come and go by their references alone, at the same moments in every run."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
