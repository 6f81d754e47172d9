"""What a person sees while a run trains, on standard error: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import math
import sys
import time
from typing import Any, Protocol, TextIO, runtime_checkable

from ..validate import instance
from .history import EpochRecord

PLAIN_INTERVAL_SECONDS = 30.0
DAY, YEAR = 86_400, 365 * 86_400  # seconds
_LONG_LOSS = 10_000  # from here on digits after the point are no news
_MANY_DAYS = 10  # from here on hours are no news


@runtime_checkable
class Reporter(Protocol):
    """What `Trainer.fit` tells about a run; pass an object of your own as `progress` to show it elsewhere."""

    def begin(self, title: str, epochs: int, total_steps: int, done_steps: int) -> None:
        """The run starts, or resumes after `done_steps`."""

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        """Step `step` of the run is done."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is trained and evaluated."""

    def note(self, text: str) -> None:
        """One line worth reading: skipped steps, a stop."""

    def end(self) -> None:
        """The run is over, in whatever way."""


def duration(seconds: float) -> str:
    """Seconds as people write them: "8 s", "2 min 05 s", "3 h 07 min", "4 days 2 h", "5.5 years"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < DAY:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole < YEAR:
        days, hours = divmod(round(whole / 3600), 24)
        if days >= _MANY_DAYS:
            return f"{round(whole / DAY):,} days"
        return f"{days} day{'' if days == 1 else 's'}" + (f" {hours} h" if hours else "")
    years = f"{whole / YEAR:,.1f}"
    return "1 year" if years == "1.0" else f"{years} years"


def epoch_line(record: EpochRecord, epochs: int, unit: str = "img/s") -> str:
    """One epoch in one line; `unit` is that of its speed."""
    line = (
        f"epoch {record.epoch}/{epochs}  loss {loss_text(record.train_loss)}  "
        f"train {_share(record.train_accuracy)}  "
        f"test {_share(record.test_accuracy)}  {record.images_per_second:,.0f} {unit}"
    )
    if record.skipped:
        line += f"  {record.skipped} skipped"
    if record.nonfinite:
        line += f"  {record.nonfinite} not finite"
    return line


def loss_text(loss: float | None) -> str:
    """A loss in a few characters: "0.1235", "1.2e+38", a dash where it is None or not finite."""
    if loss is None or not math.isfinite(loss):
        return "\N{EN DASH}"
    return f"{loss:.4f}" if abs(loss) < _LONG_LOSS else f"{loss:.2g}"


def _share(accuracy: float) -> str:
    return "\N{EN DASH}" if math.isnan(accuracy) else f"{100 * accuracy:.1f} %"


class _Clock:
    """Estimates the time left from the wall time of this process's own steps, evaluation included.

    `later` runs of as many steps follow; they are taken to be as fast as this one.
    """

    def __init__(self, total_steps: int, done_steps: int, later: int = 0) -> None:
        self._start = time.perf_counter()
        self._total, self._first, self._later = total_steps, done_steps, later

    def left(self, step: int) -> str:
        """Time left after `step` steps, or "?" before the first."""
        if step <= self._first:
            return "? left"
        each = (time.perf_counter() - self._start) / (step - self._first)
        own = each * (self._total - step)
        if not self._later:
            return f"{duration(own)} left"
        return f"{duration(own)} left, {duration(own + self._later * each * self._total)} for all runs"


class Silent:
    """Shows nothing."""

    def begin(self, title: str, epochs: int, total_steps: int, done_steps: int) -> None:
        """See Reporter."""

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        """See Reporter."""

    def epoch(self, record: EpochRecord) -> None:
        """See Reporter."""

    def note(self, text: str) -> None:
        """See Reporter."""

    def end(self) -> None:
        """See Reporter."""


class PlainLines:
    """A line per epoch, and one every half minute within a long epoch; no control characters."""

    def __init__(
        self,
        stream: TextIO | None = None,
        interval: float = PLAIN_INTERVAL_SECONDS,
        unit: str = "img/s",
    ) -> None:
        self._stream, self._unit = stream, unit
        self._interval = interval
        self._epochs = self._steps = self._step = self.later = 0
        self._clock = _Clock(0, 0)
        self._last = 0.0

    def begin(self, title: str, epochs: int, total_steps: int, done_steps: int) -> None:
        """See Reporter."""
        self._epochs, self._steps, self._step = epochs, total_steps, done_steps
        self._clock = _Clock(total_steps, done_steps, self.later)
        self._last = time.perf_counter()
        self._print(title)

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        """See Reporter."""
        self._step = step
        if time.perf_counter() - self._last >= self._interval:
            self._print(
                f"epoch {epoch}/{self._epochs}  step {step}/{self._steps}  loss {loss_text(loss)}  "
                f"{images_per_second:,.0f} {self._unit}  {self._clock.left(step)}"
            )

    def epoch(self, record: EpochRecord) -> None:
        """See Reporter."""
        left = f"  {self._clock.left(self._step)}" if record.epoch < self._epochs or self.later else ""
        self._print(epoch_line(record, self._epochs, self._unit) + left)

    def note(self, text: str) -> None:
        """See Reporter."""
        self._print(text)

    def end(self) -> None:
        """See Reporter."""

    def _print(self, text: str) -> None:
        # looked up late, so that a redirected sys.stderr is honoured
        print(text, file=self._stream or sys.stderr, flush=True)
        self._last = time.perf_counter()


class Bar:
    """A rich progress bar: steps, loss, rate, time left; finished epochs scroll above it."""

    def __init__(self, console: Any = None, unit: str = "img/s") -> None:
        from rich.console import Console

        self._unit = unit
        self._console = console or Console(stderr=True)
        self._bar: Any = None
        self._task: Any = None
        self._epochs = self.later = 0
        self._clock = _Clock(0, 0)

    def begin(self, title: str, epochs: int, total_steps: int, done_steps: int) -> None:
        """See Reporter."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._epochs = epochs
        self._clock = _Clock(total_steps, done_steps, self.later)
        self._console.print(title, highlight=False, markup=False)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"loss {{task.fields[loss]}}  {{task.fields[rate]}} {self._unit}"),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task(
            "train",
            total=total_steps,
            completed=done_steps,
            epoch=1,
            epochs=epochs,
            loss="…",
            rate="…",
            left="? left",
        )
        self._bar.start()

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        """See Reporter."""
        self._bar.update(
            self._task,
            completed=step,
            epoch=epoch,
            loss=loss_text(loss),
            rate=f"{images_per_second:,.0f}",
            left=self._clock.left(step),
        )

    def epoch(self, record: EpochRecord) -> None:
        """See Reporter."""
        self.note(epoch_line(record, self._epochs, self._unit))

    def note(self, text: str) -> None:
        """See Reporter."""
        self._console.print(text, highlight=False, markup=False)

    def end(self) -> None:
        """See Reporter."""
        if self._bar is not None:
            self._bar.stop()


def reporter(progress: bool | Reporter | None, unit: str = "img/s") -> Reporter:
    """None or True: a bar where standard error is a terminal and rich is installed, plain lines otherwise.

    False: nothing. A reporter is used itself; TypeError for anything else. `unit` is that of the speed.
    """
    if progress is False:
        return Silent()
    if progress is None or progress is True:
        if sys.stderr.isatty():
            try:
                return Bar(unit=unit)
            except ImportError:
                return PlainLines(unit=unit)
        return PlainLines(unit=unit)
    return instance("progress", progress, Reporter, "True, False, None or a Reporter")
