"""The results store: a SQLite file with a row per run, which several processes may share.

A run is pending, running, done or failed. Whoever wants to do a run claims it in one transaction; the claim
holds while its process lives (seen at once on the same machine) or beats (elsewhere), so the run of a killed
owner is taken over. What the spec decides (`figures`, the records of epochs) is kept apart from what was
measured next to it (times, memory, machine): two stores of the same runs have equal `export()`s, bit for bit.

The journal is SQLite's rollback journal: unlike a write-ahead log it needs no memory shared between the
processes, so the file may lie on a network drive. Writes are few, one per epoch and heartbeat.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...reporting.files import SaveError
from ...reporting.history import WALL_TIME_FIELDS
from ...reporting.owner import Owner
from ...validate import shown
from .spec import RunSpec, canonical

FORMAT = 1
PENDING, RUNNING, DONE, FAILED = "pending", "running", "done", "failed"
# An owner on another machine is taken for dead when its heartbeat is further away than this, past or future.
LEASE_SECONDS = 300.0
BUSY_SECONDS = 60.0  # how long a transaction waits for another process's
_TABLES = """
CREATE TABLE IF NOT EXISTS store (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    key TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'done', 'failed')),
    reason TEXT,
    figures TEXT,
    measured TEXT,
    owner TEXT,
    heartbeat REAL,
    claims INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS epochs (
    key TEXT NOT NULL REFERENCES runs (key),
    epoch INTEGER NOT NULL,
    record TEXT NOT NULL,
    measured TEXT NOT NULL,
    PRIMARY KEY (key, epoch)
);
CREATE TABLE IF NOT EXISTS pairs (
    reference TEXT NOT NULL,
    other TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (reference, other, epoch)
);
CREATE TABLE IF NOT EXISTS rates (name TEXT PRIMARY KEY, seconds TEXT NOT NULL);
"""


class StoreError(ValueError):
    """The file is no store of this engine, or of another version of it."""


class ClaimLost(RuntimeError):
    """Another process has taken the run over, so this one's result is not written."""


@dataclass(frozen=True)
class Row:
    """A run as the store has it; `history` are the records of its epochs with their measured times."""

    spec: RunSpec
    status: str
    reason: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    claims: int = 0


class Store:
    """A results store in the file `path`, made if it is missing; ":memory:" is one that nobody shares.

    It claims runs for `owner`, by default a new one for this process, which ends with `close`. Raises
    StoreError when the file is something else, and SaveError when the disk refuses, here and in every method.
    """

    def __init__(self, path: str | Path, owner: Owner | None = None) -> None:
        self.path = Path(path)
        self.owner = owner or Owner.this()
        self._owns = owner is None
        with self._in_words():
            self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            with self._in_words():
                self._database.execute("PRAGMA synchronous = FULL")
                with self._transaction():
                    for statement in _TABLES.split(";"):
                        self._database.execute(statement)
                    self._database.execute("INSERT OR IGNORE INTO store VALUES ('format', ?)", (str(FORMAT),))
                found = self._one("SELECT value FROM store WHERE name = 'format'")
            if found != (str(FORMAT),):
                came = None if found is None else found[0]
                raise StoreError(
                    f"{path} must be a results store of format {FORMAT}, got format {shown(came)}"
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; what is still claimed is pending again."""
        self._database.close()
        if self._owns:
            self.owner.retire()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def add(self, specs: Iterable[RunSpec]) -> None:
        """Enter runs as pending; those that are there already stay as they are."""
        with self._transaction():
            self._database.executemany(
                "INSERT OR IGNORE INTO runs (key, spec, status) VALUES (?, ?, 'pending')",
                [(spec.key, canonical(spec.document())) for spec in specs],
            )

    def claim(self, keys: Sequence[str]) -> str | None:
        """Take the first of these runs that is pending, or whose owner is gone; None if there is none."""
        with self._transaction():
            for key in keys:
                found = self._one("SELECT status, owner, heartbeat FROM runs WHERE key = ?", key)
                if found is None:
                    continue
                status, owner, heartbeat = found
                if status == PENDING or (status == RUNNING and _abandoned(owner, heartbeat)):
                    self._database.execute(
                        "UPDATE runs SET status = 'running', reason = NULL, owner = ?, heartbeat = ?, "
                        "claims = claims + 1 WHERE key = ?",
                        (canonical(self.owner.to_json()), time.time(), key),
                    )
                    return key
        return None

    def beat(self, key: str) -> bool:
        """Say that this process still does the run; False if another one has taken it over."""
        with self._transaction():
            return self._mine(key, "heartbeat = ?", (time.time(),))

    def release(self, key: str) -> None:
        """Give a run back unfinished: pending, to be gone on with."""
        with self._transaction():
            self._mine(key, "status = 'pending', owner = NULL, heartbeat = NULL", ())

    def release_all(self) -> None:
        """Give every run back whose result is not there, whoever claims it.

        For a store with one user at a time, who knows that the one before has ended, on another machine say.
        """
        with self._transaction():
            self._database.execute(
                "UPDATE runs SET status = 'pending', owner = NULL, heartbeat = NULL WHERE status = 'running'"
            )

    def record_epoch(self, key: str, record: Mapping[str, Any]) -> None:
        """Enter one epoch of a run in progress; an earlier record of that epoch is replaced."""
        with self._transaction():
            if self._mine(key, "heartbeat = ?", (time.time(),)):
                self._write_epochs(key, [record])

    def finish(
        self,
        key: str,
        status: str,
        figures: Mapping[str, Any],
        measured: Mapping[str, Any],
        history: Sequence[Mapping[str, Any]],
        reason: str | None = None,
    ) -> None:
        """Enter the result of a run, done or failed, with every epoch, in one transaction.

        Raises ClaimLost, and writes nothing, if another process has taken the run over.
        """
        with self._transaction():
            mine = self._mine(
                key,
                "status = ?, reason = ?, figures = ?, measured = ?, owner = NULL, heartbeat = NULL",
                (status, reason, canonical(_numbers(figures)), canonical(_numbers(measured))),
            )
            if not mine:
                raise ClaimLost(f"run {key}: another process has taken it over")
            self._database.execute("DELETE FROM epochs WHERE key = ?", (key,))
            self._write_epochs(key, history)

    def retry(self, keys: Iterable[str]) -> None:
        """Make failed runs pending again."""
        with self._transaction():
            self._database.executemany(
                "UPDATE runs SET status = 'pending', reason = NULL WHERE key = ? AND status = 'failed'",
                [(key,) for key in keys],
            )

    def status(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the status of each of these runs; one that is not there counts as pending.

        A run whose owner is gone is pending too.
        """
        found = dict.fromkeys(keys, PENDING)
        for key in found:
            row = self._one("SELECT status, owner, heartbeat FROM runs WHERE key = ?", key)
            if row is not None and not (row[0] == RUNNING and _abandoned(row[1], row[2])):
                found[key] = row[0]
        return found

    def row(self, key: str) -> Row | None:
        """Return a run, None if it is not there."""
        found = self._one(
            "SELECT spec, status, reason, figures, measured, claims FROM runs WHERE key = ?", key
        )
        if found is None:
            return None
        epochs = self._all("SELECT record, measured FROM epochs WHERE key = ? ORDER BY epoch", key)
        return Row(
            spec=self._spec(key, found[0]),
            status=found[1],
            reason=found[2],
            figures=self._object(key, "figures", found[3] or "{}"),
            measured=self._object(key, "measured", found[4] or "{}"),
            history=tuple(
                {**self._object(key, "epoch", record), **self._object(key, "epoch", times)}
                for record, times in epochs
            ),
            claims=found[5],
        )

    def run_keys(self) -> list[str]:
        """Return the keys of all runs in canonical order: that of their specs."""
        found = self._all("SELECT key, spec FROM runs")
        specs = {key: self._spec(key, text).document() for key, text in found}
        return sorted((key for key, _ in found), key=lambda key: (_order(specs[key]), key))

    def set_pair(self, reference: str, other: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep what the predictions of two runs say about one another, a record per epoch."""
        with self._transaction():
            self._database.executemany(
                "INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?)",
                [(reference, other, record["epoch"], canonical(_numbers(record))) for record in records],
            )

    def pair(self, reference: str, other: str) -> list[dict[str, Any]]:
        """Return what `set_pair` kept, epoch by epoch; empty if nothing was."""
        found = self._all(
            "SELECT record FROM pairs WHERE reference = ? AND other = ? ORDER BY epoch", reference, other
        )
        return [self._object(other, "pair", record) for (record,) in found]

    def set_rate(self, name: str, seconds: Mapping[str, float]) -> None:
        """Keep how long things take on this machine, for estimates."""
        with self._transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO rates VALUES (?, ?)", (name, canonical(dict(seconds)))
            )

    def rate(self, name: str) -> dict[str, float] | None:
        """Return what `set_rate` kept."""
        found = self._one("SELECT seconds FROM rates WHERE name = ?", name)
        return None if found is None else self._object(name, "rate", found[0])

    def export(self, measured: bool = False) -> dict[str, Any]:
        """Return everything that the specs decide, in canonical order; with `measured` the rest too.

        Without it, two stores in which the same runs are done give equal documents, however often either was
        interrupted.
        """
        runs = []
        for key in self.run_keys():
            row = self.row(key)
            assert row is not None
            times = () if measured else WALL_TIME_FIELDS
            status = row.status if row.status in (DONE, FAILED) else PENDING
            finished = status != PENDING
            run = {
                "key": key,
                "spec": row.spec.document(),
                "status": status,
                "reason": row.reason,
                "figures": row.figures,
                "history": [
                    {name: value for name, value in epoch.items() if name not in times}
                    for epoch in (row.history if finished else ())
                ],
            }
            runs.append({**run, "measured": row.measured} if measured else run)
        pairs = self._all("SELECT reference, other, record FROM pairs ORDER BY reference, other, epoch")
        return {
            "format": FORMAT,
            "runs": runs,
            "pairs": [
                {**self._object(q, "pair", record), "reference": p, "other": q} for p, q, record in pairs
            ],
        }

    def export_csv(self) -> str:
        """Return a line per run, figures and measurements included, in canonical order."""
        rows = [_flat(run) for run in self.export(measured=True)["runs"]]
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._in_words():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                # a full disk may have ended the transaction already, or refuse this too: the journal that is
                # left then is rolled back by whoever opens the file next
                with contextlib.suppress(sqlite3.Error):
                    if self._database.in_transaction:
                        self._database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        """Say in one sentence what SQLite says: the system refused, or the file is something else."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise SaveError.because(self.path, str(error)) from error
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self.path} must be a results store of this engine, got {error}") from None

    def _one(self, statement: str, *values: Any) -> Any:
        with self._in_words():
            return self._database.execute(statement, values).fetchone()

    def _all(self, statement: str, *values: Any) -> list[Any]:
        with self._in_words():
            return self._database.execute(statement, values).fetchall()

    def _object(self, key: str, what: str, text: Any) -> dict[str, Any]:
        """Return the JSON object in a field; StoreError names the run and the field if it is none."""
        try:
            value = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise StoreError(f"{self.path} is damaged: {what} of {key} must be a JSON object")
        return value

    def _spec(self, key: str, text: Any) -> RunSpec:
        try:
            made = RunSpec.of_document(self._object(key, "spec", text))
            fits = made.key == key
        except (KeyError, TypeError, ValueError, AttributeError):
            fits = False
        if not fits:
            raise StoreError(f"{self.path} is damaged: spec of {key} must describe the run of that key")
        return made

    def _mine(self, key: str, change: str, values: tuple[Any, ...]) -> bool:
        """Change a run if this owner holds it; tell whether it does."""
        found = self._one("SELECT owner FROM runs WHERE key = ? AND status = 'running'", key)
        if found is None or (holder := _owner(found[0])) is None or holder.token != self.owner.token:
            return False
        self._database.execute(f"UPDATE runs SET {change} WHERE key = ?", (*values, key))
        return True

    def _write_epochs(self, key: str, history: Sequence[Mapping[str, Any]]) -> None:
        rows = []
        for record in history:
            times = {name: record[name] for name in WALL_TIME_FIELDS if name in record}
            rest = {name: value for name, value in record.items() if name not in times}
            rows.append((key, record["epoch"], canonical(_numbers(rest)), canonical(_numbers(times))))
        self._database.executemany("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?)", rows)


def _owner(text: Any) -> Owner | None:
    """The owner that a field names; None where it names none."""
    try:
        return Owner.of_json(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None


def _abandoned(text: Any, heartbeat: Any) -> bool:
    owner = _owner(text)
    gone = True if owner is None else owner.gone()
    if gone is not None:
        return gone
    return not isinstance(heartbeat, int | float) or abs(time.time() - heartbeat) > LEASE_SECONDS


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nan and infinities as None, for JSON."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _order(spec: Mapping[str, Any]) -> str:
    first = [spec[name] for name in ("data", "data_sha256", "model", "precision", "training", "fitting")]
    return canonical(first) + f"{spec['epochs']:09d}{spec['seed']:09d}" + canonical(spec)


def _flat(run: Mapping[str, Any]) -> dict[str, Any]:
    spec = run["spec"]
    status = {"key": run["key"], "status": run["status"], "reason": run["reason"] or ""}
    parts = (status, spec, spec["training"], spec["fitting"], run["figures"], run["measured"])
    return {
        name: value for part in parts for name, value in part.items() if not isinstance(value, Mapping | list)
    }
