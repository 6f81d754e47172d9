"""SIGINT and SIGTERM while training: the first asks for a stop after the step, the second aborts."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(RuntimeError):
    """A signal stopped training after the step was finished and saved; the message says how to resume."""

    def __init__(self, message: str, signal_name: str = "", step: int = 0) -> None:
        super().__init__(message)
        self.signal_name = signal_name
        self.step = step


class InterruptGuard:
    """Context manager: `requested` is the name of the first signal that came, None before.

    Handlers are installed in the main thread only (elsewhere Python forbids it and `requested` stays None),
    not for a signal that the process ignores, and restored on exit. A second signal raises KeyboardInterrupt
    at once.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.requested: str | None = None
        self._enabled = enabled
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> InterruptGuard:
        if self._enabled and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # a shell that starts a run in the background has it ignore SIGINT, and that stays so
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, previous in self._previous.items():
            # None: the handler was installed by C code and cannot be put back from Python
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
