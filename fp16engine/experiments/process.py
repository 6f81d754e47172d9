"""Who owns a run: a process that another one can recognise, and tell whether it is still there."""

from __future__ import annotations

import os
import platform
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Owner:
    """A process: its machine (this boot of it, this process namespace), its number, when it was started.

    Numbers are given again after a process has ended; the start time tells the two apart. `token` is unique,
    also for two owners within one process.
    """

    host: str
    machine: str
    pid: int
    started: str | None
    token: str

    @classmethod
    def this(cls) -> Owner:
        """Return an owner for the calling process."""
        return cls(platform.node(), _machine(), os.getpid(), _started(os.getpid()), uuid.uuid4().hex)

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> Owner:
        """Return the owner that `to_json` described."""
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def gone(self) -> bool | None:
        """Tell whether the process has ended; None where that cannot be seen from here.

        It can be seen on the same machine only: another one, or another container, has numbers of its own.
        """
        if self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it is there, and another user's
        now = _started(self.pid)
        return None if now is None or self.started is None else now != self.started


def _machine() -> str:
    boot = _text(Path("/proc/sys/kernel/random/boot_id"))
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{platform.node()} {boot} {namespace}"


def _started(pid: int) -> str | None:
    """Return when a process was started, in ticks since boot; None where the system does not tell.

    A process that has ended and waits for its parent to ask (state Z) counts as another one.
    """
    stat = _text(Path(f"/proc/{pid}/stat"))
    fields = stat.rpartition(")")[2].split()  # the name in parentheses may hold anything
    if len(fields) < 20:
        return None
    return "ended" if fields[0] in "ZX" else fields[19]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
