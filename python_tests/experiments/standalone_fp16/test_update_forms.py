"""The experiment on update forms, from the command to its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fp16engine.cli import main
from fp16engine.precision import UPDATES

pytestmark = pytest.mark.slow


def test_every_form_is_trained_and_its_lost_updates_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fp16engine.experiments.report import pages

    monkeypatch.setattr(pages, "missing", lambda: "not needed here")
    argv = "reproduce updates --data digits --models dnn --epochs 1 --limit 64 --seeds 1 --batch-size 32"
    assert main([*argv.split(), "--lr", "1e-5", "--out", str(tmp_path / "out"), "--json"]) == 0
    text = capsys.readouterr().out
    document = json.loads(text)
    rows = {row["arm"]: row for row in document["experiments"][0]["tables"]["updates"]["rows"]}
    assert set(rows) == {*(f"FP16, {form}" for form in UPDATES), "FP32"}
    assert [rows[f"FP16, {form}"]["bytes"] for form in UPDATES] == [6, 6, 8, 12] and rows["FP32"][
        "bytes"
    ] == 12
    # far too small steps: lost to nearest, kept by masters and by FP32
    assert rows["FP16, nearest"]["lost"] > 0.5 > rows["FP16, master32"]["lost"]
    assert rows["FP16, kahan"]["lost"] < rows["FP16, nearest"]["lost"]
