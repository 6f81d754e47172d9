"""Several runs one after the other, as one: which of them it is, and the time that all of them need."""

from __future__ import annotations

from typing import Any

from .history import EpochRecord
from .progress import Reporter


class Series:
    """A `Reporter` that counts `runs` runs and passes everything on.

    A reporter with an attribute `later` learns how many runs follow the one it shows.
    """

    def __init__(self, inner: Reporter, runs: int) -> None:
        self._inner, self._runs, self._number = inner, runs, 0

    def begin(self, title: str, epochs: int, total_steps: int, done_steps: int) -> None:
        """See Reporter."""
        self._number += 1
        if hasattr(self._inner, "later"):
            self._inner.later = self._runs - self._number
        self._inner.begin(f"{self._named()}: {title}", epochs, total_steps, done_steps)

    def skip(self, text: str) -> None:
        """Count a run that need not be done, and say why."""
        self._number += 1
        self.note(f"{self._named()}: {text}")

    def _named(self) -> str:
        return f"run {self._number} of {self._runs}"

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        """See Reporter."""
        self._inner.step(epoch, step, loss, images_per_second)

    def epoch(self, record: EpochRecord) -> None:
        """See Reporter."""
        self._inner.epoch(record)

    def sample(self, sample: Any) -> None:
        """What a monitor saw goes to a reporter that shows it."""
        show = getattr(self._inner, "sample", None)
        if show is not None:
            show(sample)

    def note(self, text: str) -> None:
        """See Reporter."""
        self._inner.note(text)

    def end(self) -> None:
        """See Reporter."""
        self._inner.end()
