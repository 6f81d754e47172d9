"""What a job publishes is read as it was written; anything else is refused or taken for nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_sweep

from fp16engine.experiments.cluster import results
from fp16engine.experiments.runs.store import DONE, Row
from fp16engine.reporting.owner import Owner

SPEC = tiny_sweep.plans()[0].spec
ROW = Row(SPEC, DONE, None, {"test_accuracy": 0.5}, {"train_seconds": 1.0}, ({"epoch": 1, "seconds": 1.0},))


def test_a_result_is_read_as_it_was_published(tmp_path: Path) -> None:
    assert results.result(tmp_path, SPEC.key) is None and not results.published(tmp_path, SPEC.key)
    results.publish(tmp_path, SPEC.key, ROW, 2.0)
    made = results.result(tmp_path, SPEC.key)
    assert made == results.Result(
        SPEC.key, DONE, None, ROW.figures, ROW.measured, list(ROW.history), 2.0
    ) and results.published(tmp_path, SPEC.key)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key", "other"),
        ("status", "running"),
        ("figures", []),
        ("measured", None),
        ("history", [{}]),
        ("history", 1),
        ("reason", 1),
        ("seconds", "1"),
        ("more", 1),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, name: str, value: object) -> None:
    results.publish(tmp_path, SPEC.key, ROW, 2.0)
    path = next(tmp_path.glob("results/*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ValueError, match="must be the result of run"):
        results.result(tmp_path, SPEC.key)


def test_a_state_is_read_as_it_was_written_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    assert results.state(tmp_path) is None
    state = results.State(Owner.of_process(1), "key", 2, None, 1, 3, 4.0, 0.0, "SIGTERM", "why")
    results.write_state(tmp_path, state)
    read = results.state(tmp_path)
    assert read.at > 0 and results.State(**{**vars(read), "at": 0.0}) == state
    path = tmp_path / "state.json"
    document = json.loads(path.read_text())
    for name, value in (("owner", {}), ("key", 1), ("epoch", "1"), ("at", None), ("new", 1)):
        path.write_text(json.dumps({**document, name: value}))
        assert results.state(tmp_path) is None
    path.write_text("no")
    assert results.state(tmp_path) is None
