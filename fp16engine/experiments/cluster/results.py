"""What a job writes for others: a file per finished run, and one that says what it is doing.

Each is written whole, over the one before, so that it can be read at any moment and on any machine. The
job's own results store is a SQLite file, which only the job opens.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...bounded import FAULTS
from ...reporting.files import make_folder, write_atomically
from ...reporting.owner import Owner
from ..runs.spec import canonical
from ..runs.store import DONE, FAILED, Row
from .sweep import read_json

_STATE, _RESULTS = "state.json", "results"


@dataclass(frozen=True)
class Result:
    """A finished run as its job published it; `seconds` is how long its last start took."""

    key: str
    status: str
    reason: str | None
    figures: dict[str, Any]
    measured: dict[str, Any]
    history: list[dict[str, Any]]
    seconds: float


def publish(job: Path, key: str, row: Row, seconds: float) -> None:
    """Write the result of a run."""
    made = Result(key, row.status, row.reason, row.figures, row.measured, list(row.history), seconds)
    make_folder(job / _RESULTS)
    write_atomically(_path(job, key), canonical(asdict(made)))


def published(job: Path, key: str) -> bool:
    """Tell whether the result of a run is there."""
    return _path(job, key).exists()


def result(job: Path, key: str) -> Result | None:
    """Read the result of a run, None if it is not there; ValueError if the file is no result of that run."""
    try:
        document = read_json(_path(job, key))
    except FileNotFoundError:
        return None
    try:
        made = Result(**document)
        good = (
            made.key == key
            and made.status in (DONE, FAILED)
            and isinstance(made.reason, str | None)
            and isinstance(made.figures, dict)
            and isinstance(made.measured, dict)
            and all(isinstance(record["epoch"], int) for record in made.history)
            and made.seconds >= 0
        )
    except FAULTS:
        good = False
    if not good:
        raise ValueError(f"{_path(job, key)} must be the result of run {key}")
    return made


@dataclass(frozen=True)
class State:
    """What a job is doing.

    Args:
        owner: the process.
        key: the run that it does, None before the first.
        attempt: how often this run was begun from one and the same checkpoint.
        mark: tells that checkpoint from others, None before the first.
        epoch: epochs done of the run.
        epochs: all of them.
        begun: when this start of the run began, in seconds since 1970.
        at: when this was written, in seconds since 1970.
        stopped: the signal that ended the job, None if none did.
        error: why the job ended without doing its runs, None if it did not.
    """

    owner: Owner
    key: str | None = None
    attempt: int = 0
    mark: int | None = None
    epoch: int = 0
    epochs: int = 0
    begun: float = 0.0
    at: float = 0.0
    stopped: str | None = None
    error: str | None = None


def write_state(job: Path, state: State) -> None:
    """Write what the job is doing."""
    document = {**asdict(state), "owner": state.owner.to_json(), "at": time.time()}
    write_atomically(job / _STATE, canonical(document))


def state(job: Path) -> State | None:
    """Read what a job is doing, None if it has not said or the file is damaged."""
    try:
        document = read_json(job / _STATE)
        made = State(**{**document, "owner": Owner.of_json(document["owner"])})
        return made if _sound(made) else None
    except (*FAULTS, OSError):
        return None


def _sound(made: State) -> bool:
    texts: Mapping[str, Any] = {"key": made.key, "stopped": made.stopped, "error": made.error}
    numbers = (made.attempt, made.epoch, made.epochs, made.begun, made.at)
    return all(isinstance(text, str | None) for text in texts.values()) and all(
        isinstance(number, int | float) for number in numbers
    )


def _path(job: Path, key: str) -> Path:
    return job / _RESULTS / f"{key}.json"
