"""The audit of a whole run: its first step, the first of every phase, and later ones at an interval.

A phase is what a precision's plan puts in force: a booster's last epoch has operands of its own. Steps 1, 2,
4, 8, ... and every 1000th are audited as well, for a layer that changes its mind. They are steps of the run
itself, with the same bits, taken operation by operation where others are captured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .audit import Audit, counted, persistent_arrays

if TYPE_CHECKING:
    from .protocols import TrainingView

EVERY = 1000


class AuditLog:
    """Keeps the audit of a run up to date during `Trainer.fit`."""

    def __init__(self, run: TrainingView) -> None:
        self._run = run

    def due(self, ahead: int = 0) -> bool:
        """Tell whether the step that is `ahead` steps from the next one is audited."""
        step = self._run.step_count + ahead + 1
        return step & (step - 1) == 0 or step % EVERY == 0 or self._phase() not in self._audited()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Audit the step inside, where it is due."""
        if not self.due():
            yield
            return
        run, phase = self._run, self._phase()
        with Audit() as audit:
            yield
        audit.persistent = list(persistent_arrays(run))
        found = {**audit.to_dict(run.in_force), "audited": {phase: [run.step_count]}}
        run.audit = merged(run.audit, found)

    def _phase(self) -> str:
        return self._run.in_force.name

    def _audited(self) -> dict[str, list[int]]:
        audited: dict[str, list[int]] = (self._run.audit or {}).get("audited", {})
        return audited


def merged(before: dict[str, Any] | None, found: dict[str, Any]) -> dict[str, Any]:
    """Return two audits, as `Audit.to_dict` gives them, as one.

    Every combination of types is listed once, with the calls of the step in which it ran most often.
    `scratch_bytes` stays that of the first: it depends on what ran before.
    """
    if before is None:
        return found
    rows = _united(before["rows"], found["rows"], ("calls",))
    resident = _united(before["resident"], found["resident"], ("arrays", "bytes"))
    audited = {phase: list(steps) for phase, steps in before.get("audited", {}).items()}
    for phase, steps in found["audited"].items():
        audited.setdefault(phase, []).extend(steps)
    return {
        **before,
        **counted(rows, resident),
        "operations": max(before["operations"], found["operations"]),
        "rows": rows,
        "resident": resident,
        "audited": audited,
    }


def _united(
    before: list[dict[str, Any]], found: list[dict[str, Any]], numbers: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return the entries of both lists, those that differ in `numbers` only as one, with the larger."""
    united: dict[str, dict[str, Any]] = {}
    for entry in (*before, *found):
        same = {name: value for name, value in entry.items() if name not in numbers}
        key = json.dumps(same, sort_keys=True)
        known = united.setdefault(key, entry)
        united[key] = {**known, **{name: max(known[name], entry[name]) for name in numbers}}
    return list(united.values())
