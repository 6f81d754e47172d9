"""A results folder: claimed once, never overwritten, resumed only by the same experiment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...reporting.files import make_folder, write_atomically
from ...reporting.history import SUMMARY
from ...reporting.metrics import FILE_NAME as METRICS
from ...train.checkpoint import FILE_NAME as CHECKPOINT
from ...validate import must_be, shown

COMPARISON = "compare.json"  # the settings of a comparison


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically; NaN and infinities raise ValueError."""
    write_atomically(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; ValueError names the file if it is not one."""
    try:
        value = json.loads(path.read_text())
    except RecursionError:
        raise ValueError(f"{path} must be valid JSON, got one nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} must be valid JSON, got {error}") from None
    if not isinstance(value, dict):
        raise ValueError(must_be(str(path), "a JSON object", type(value)))
    return value


def read_run(path: Path, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Read the record of a finished run; ValueError names the entry that is missing or of another type."""
    value = read_json(path)
    for name, kind in entries.items():
        if name not in value or not isinstance(value[name], kind):
            raise ValueError(
                f"{path} must hold a valid entry {name!r}, got {shown(value.get(name))}; "
                "remove the file to have the run done again"
            )
    return value


def refuse_results(out: Path) -> None:
    """Raise ValueError if `out` is a file or a folder with results of any command in it."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out must be a folder, got {out}, which is a file")
    taken = _results(out)
    if taken:
        raise ValueError(
            f"out must be a folder without results, got {out} with {taken[0]}; choose another folder or "
            "continue with --resume"
        )


def _results(out: Path) -> list[str]:
    names = (SUMMARY, COMPARISON, CHECKPOINT, METRICS)
    return [name for name in names if (out / name).exists()]


def claim(out: Path, settings: dict[str, Any], resume: bool, may_change: frozenset[str]) -> None:
    """Take `out` for a comparison, or continue with the one in it.

    Without `resume`, a folder with results in it is refused; with `resume`, one without a comparison is, and
    the settings stored there must be the same but for the keys in `may_change`. Nothing existing is touched
    before that is settled. Raises ValueError.
    """
    if not resume:
        refuse_results(out)
    taken = _results(out)
    if resume and COMPARISON not in taken:
        got = f"with {taken[0]}" if taken else "without results"
        raise ValueError(f"resume must have a folder with {COMPARISON}, got {out} {got}")
    if taken:
        before = read_json(out / COMPARISON)
        for key in sorted((settings.keys() | before.keys()) - may_change):
            if settings.get(key) != before.get(key):
                raise ValueError(
                    f"resume: {key} must be {shown(before.get(key))} as in {out}, got "
                    f"{shown(settings.get(key))}; use the same settings or another folder"
                )
    make_folder(out)
    write_json(out / COMPARISON, settings)
