"""Contenders take steps in turn, in one process, so that a machine that slows down slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_MAX_STEPS = 200


@dataclass
class Contender:
    """One thing to measure: a step, how many images it takes, and the rates seen so far."""

    engine: str
    precision: str
    batch_size: int
    step: Callable[[], object]
    steps: int = 1  # timed steps per round
    rounds: int | None = None  # None: every round
    captured: bool = False  # ours, replayed from a graph
    wait: Callable[[], object] = lambda: None  # until the device has done what the steps asked for
    kernels: Callable[[], int | None] = lambda: None  # of a captured step
    rates: list[float] = field(default_factory=list)
    host_seconds: list[float] = field(default_factory=list)  # per step, until the next one may be asked for

    @property
    def name(self) -> str:
        """Return e.g. "fp16" or "fp16-captured" for ours and "torch-fp16" for a peer."""
        own = f"{self.precision}-captured" if self.captured else self.precision
        return own if self.engine == "fp16engine" else f"{self.engine}-{self.precision}"


def measure(contenders: list[Contender], rounds: int, seconds: float, note: Callable[[str], None]) -> None:
    """Fill the rates of the contenders: in each round every one takes steps for about `seconds` seconds."""
    for contender in contenders:
        note(f"{contender.name}: warm-up")
        slow = contender.rounds is not None
        for _ in range(1 if slow else 3):
            contender.step()
        contender.wait()
        start = time.perf_counter()
        contender.step()
        contender.wait()
        one = time.perf_counter() - start
        contender.steps = 1 if slow else int(min(max(seconds / one, 1), _MAX_STEPS))
    for number in range(rounds):
        note(f"round {number + 1} of {rounds}")
        for contender in contenders:
            if contender.rounds is not None and number >= contender.rounds:
                continue
            if contender.rounds is None:
                contender.step()  # fills caches and wakes the threads of this contender's library
                contender.wait()
            start = time.perf_counter()
            for _ in range(contender.steps):
                contender.step()
            asked = time.perf_counter() - start
            contender.wait()
            elapsed = time.perf_counter() - start
            contender.host_seconds.append(asked / contender.steps)
            contender.rates.append(contender.steps * contender.batch_size / elapsed)
