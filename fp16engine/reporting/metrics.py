"""metrics.jsonl: one JSON row per epoch and every few steps, which loggers get, too."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from .files import SaveError, open_to_append, write_atomically
from .loggers import Loggers

FILE_NAME = "metrics.jsonl"


def _kept(line: bytes, step: int, epochs: int) -> bool:
    """Whether a row lies before a checkpoint taken after `step` steps and `epochs` finished epochs."""
    try:
        row = json.loads(line)
        return bool(row["epoch"] <= epochs if row["kind"] == "epoch" else row["step"] <= step)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def finished_epochs(directory: Path) -> list[dict[str, Any]]:
    """The records of the epochs that a run in `directory` has finished, also of one that broke off."""
    return [{k: v for k, v in row.items() if k != "kind"} for row in _rows(directory, "epoch", {"epoch"})]


def losses(directory: Path) -> list[list[Any]]:
    """[step, loss] of the logged steps of a run in `directory`; None for a loss that is not finite."""
    return [[row["step"], row["loss"]] for row in _rows(directory, "step", {"step", "loss"})]


def _rows(directory: Path, kind: str, names: set[str]) -> list[dict[str, Any]]:
    """The rows of one kind; ValueError names the file and the first line that is no row."""
    path, found = directory / FILE_NAME, []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
            whole = row["kind"] != kind or names <= row.keys()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise ValueError(f"{path} is damaged: line {number} must be a row of metrics")
        if row["kind"] == kind:
            found.append(row)
    return found


class MetricsWriter:
    """Appends rows to DIR/metrics.jsonl, and passes them to `loggers`, which it ends.

    With `resume_at=(step, epochs)` the file is first cut to the rows that lie before that checkpoint (a row
    that a kill left half-written goes too); without it the file starts empty. Raises SaveError when the disk
    refuses.
    """

    def __init__(
        self, directory: Path, resume_at: tuple[int, int] | None = None, loggers: Loggers | None = None
    ) -> None:
        self._path, self._loggers = directory / FILE_NAME, loggers
        kept = b""
        if resume_at is not None and self._path.exists():
            lines = self._path.read_bytes().splitlines(keepends=True)
            kept = b"".join(line for line in lines if line.endswith(b"\n") and _kept(line, *resume_at))
        write_atomically(self._path, kept)
        try:
            self._file = open_to_append(self._path)
        except OSError as error:
            raise SaveError.of(self._path, error) from error

    def write(self, row: dict[str, Any]) -> None:
        """Append one row: "kind" ("step" or "epoch"), "epoch", "step" and JSON values."""
        try:
            self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise SaveError.of(self._path, error) from error
        if self._loggers is not None:
            self._loggers.log(row)

    def sync(self) -> None:
        """Bring every row to the disk; called before a checkpoint that counts them."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise SaveError.of(self._path, error) from error
        if self._loggers is not None:
            self._loggers.flush()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as fault:
            if error is None:
                raise SaveError.of(self._path, fault) from fault
        if self._loggers is not None:
            self._loggers.finish(failed=error is not None)
