"""How far a long task is, on standard error: a bar on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .progress import PLAIN_INTERVAL_SECONDS, duration


@contextmanager
def counting(title: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function that adds to the number of things done of `total`; any thread may call it.

    >>> with counting("decoding", 2, shown=False) as done:
    ...     done(2)
    """
    if not shown:
        yield lambda count: None
        return
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError:
            pass
        else:
            columns = TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task("", total=total)
                yield lambda count: bar.advance(task, count)
            return
    yield _Lines(title, total)


class _Lines:
    """Counts and prints; see `counting`."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._start = self._last = time.perf_counter()
        self._lock = threading.Lock()

    def __call__(self, count: int) -> None:
        with self._lock:
            self._done += count
            now = time.perf_counter()
            if now - self._last < PLAIN_INTERVAL_SECONDS or not self._done:
                return
            self._last = now
            left = (now - self._start) / self._done * (self._total - self._done)
            print(
                f"{self._title}: {self._done:,} of {self._total:,}, {duration(left)} left",
                file=sys.stderr,
                flush=True,
            )
