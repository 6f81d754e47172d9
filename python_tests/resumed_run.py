"""Runs that are stopped and go on: a reporter that breaks one, and everything that a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tiny_run

import fp16engine as fe
from fp16engine.reporting.history import WALL_TIME_FIELDS, EpochRecord, History


class StopAt:
    """Raises at the n-th step, as an out-of-memory error would."""

    def __init__(self, at: int) -> None:
        self.at = at

    def begin(self, *arguments: Any) -> None:
        pass

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        if step == self.at:
            raise MemoryError

    def epoch(self, record: EpochRecord) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def end(self) -> None:
        pass


def fit(
    trainer: fe.Trainer, out: Path | None, resume: bool = False, progress: Any = False, **options: Any
) -> History:
    """Three epochs with a checkpoint and a row after every step."""
    settings = {"epochs": 3, "batch_size": 16, "checkpoint_every": 1, "log_every": 1, **options}
    return trainer.fit(tiny_run.data(), out=out, resume=resume, progress=progress, **settings)


def outcome(out: Path) -> tuple[bytes, Any, Any]:
    """Everything a run leaves behind except wall times and the peak of memory: tensors, state, metrics."""

    def timeless(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if key not in WALL_TIME_FIELDS}

    body = json.loads((out / "checkpoint.json").read_text())["checkpoint"]
    body["history"] = [timeless(row) for row in body["history"]]
    body["sums"] = timeless(body["sums"])
    del body["peak_memory_bytes"]
    metrics = [timeless(json.loads(line)) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return (out / body["tensors"]["file"]).read_bytes(), body, metrics
