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

COMPARISON = "compare.json"  # the settings of a comparison


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically; NaN and infinities raise ValueError."""
    write_atomically(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; ValueError names the file if it is not one."""
    try:
        value = json.loads(path.read_text())
    except RecursionError:
        raise ValueError(f"{path}: no valid JSON (nested too deeply)") from None
    except ValueError as error:
        raise ValueError(f"{path}: no valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: a JSON object is wanted, a {type(value).__name__} is in it")
    return value


def read_run(path: Path, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Read the record of a finished run; ValueError names the entry that is missing or of another type."""
    value = read_json(path)
    for name, kind in entries.items():
        if name not in value or not isinstance(value[name], kind):
            raise ValueError(
                f"{path} is damaged: its entry {name!r} is missing or of the wrong type; "
                "remove the file to have the run done again"
            )
    return value


def refuse_results(out: Path) -> None:
    """Raise ValueError if `out` is a file or a folder with results of any command in it."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: {out} is a file, a folder is wanted")
    taken = _results(out)
    if taken:
        raise ValueError(
            f"out: {out} already holds results ({taken[0]}); choose another folder or go on with --resume"
        )


def _results(out: Path) -> list[str]:
    names = (SUMMARY, COMPARISON, CHECKPOINT, METRICS)
    return [name for name in names if (out / name).exists()]


def claim(out: Path, settings: dict[str, Any], resume: bool, may_change: frozenset[str]) -> None:
    """Take `out` for a comparison, or go on with the one in it.

    Without `resume`, a folder with results in it is refused; with `resume`, the settings stored there must be
    the same but for the keys in `may_change`. Nothing existing is touched before that is settled. Raises
    ValueError.
    """
    if not resume:
        refuse_results(out)
    taken = _results(out)
    if taken and COMPARISON not in taken:
        raise ValueError(f"resume: {out} holds results of another command ({taken[0]}, no {COMPARISON})")
    if taken:
        before = read_json(out / COMPARISON)
        for key in sorted((settings.keys() | before.keys()) - may_change):
            if settings.get(key) != before.get(key):
                raise ValueError(
                    f"resume: {out} was made with {key} {before.get(key)!r}, {settings.get(key)!r} given; "
                    "use the same settings or another folder"
                )
    make_folder(out)
    write_json(out / COMPARISON, settings)
