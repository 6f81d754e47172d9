"""An end to what cannot be asked to stop, such as a compiler of another library."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 1.0  # seconds: whoever catches every error is told once more


@contextmanager
def at_most(seconds: float | None) -> Iterator[None]:
    """Raise TimeoutError inside the block when its time is over; None is no limit.

    Works in the main thread of a POSIX system, and between two steps of the interpreter: elsewhere, and in
    one long call of compiled code, there is no limit.

    >>> import time
    >>> with at_most(0.01):
    ...     time.sleep(10)
    Traceback (most recent call last):
        ...
    TimeoutError: not done after 0.01 s
    """
    possible = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if seconds is None or not possible:
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
