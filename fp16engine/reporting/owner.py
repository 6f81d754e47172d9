"""Who owns a run: a process that another one can recognise, and tell whether it is still there."""

from __future__ import annotations

import os
import platform
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_LIVE: set[str] = set()  # tokens of this process's owners that still hold something


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
        made = cls(platform.node(), _machine(), os.getpid(), _started(os.getpid()), uuid.uuid4().hex)
        _LIVE.add(made.token)
        return made

    @classmethod
    def of_process(cls, pid: int) -> Owner:
        """Return an owner for another process of this machine."""
        return cls(platform.node(), _machine(), pid, _started(pid), uuid.uuid4().hex)

    def retire(self) -> None:
        """Hold nothing any more, though the process lives on."""
        _LIVE.discard(self.token)

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> Owner:
        """Return the owner that `to_json` described; ValueError or TypeError for anything else."""
        made = cls(**value)
        texts = (made.host, made.machine, made.token)
        if not all(isinstance(text, str) for text in texts) or type(made.pid) is not int:
            raise ValueError(f"owner: a process must be named, got {value!r}")
        if not 0 < made.pid < 2**31 or not isinstance(made.started, str | None):
            raise ValueError(f"owner: a process must be named, got {value!r}")
        return made

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def gone(self) -> bool | None:
        """Tell whether the process has ended or retired; None where that cannot be seen from here.

        It can be seen on the same machine only: another one, or another container, has numbers of its own.
        """
        if self.machine != _machine():
            return None
        if self.pid == os.getpid():
            return self.started != _started(self.pid) or self.token not in _LIVE
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
