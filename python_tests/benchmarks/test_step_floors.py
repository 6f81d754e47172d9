"""benchmarks/step_floors.py: the committed table is that of today's code."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COUNTED = ("nodes", "barriers", "mbytes", "gflop", "kernels")


def _script() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / "step_floors.py"))


def test_it_writes_what_is_committed(simt: Any, tmp_path: Path) -> None:
    _script()["main"](["--models", "alexnet", "mobilenetv2", "--out", str(tmp_path)])
    kept = json.loads((BENCHMARKS / "results/step_floors.json").read_text())
    committed = {row["model"]: row for row in kept}
    found = json.loads((tmp_path / "step_floors.json").read_text())
    assert [row["model"] for row in found] == ["alexnet", "mobilenetv2"]
    for row in found:
        assert {key: row[key] for key in COUNTED} == {key: committed[row["model"]][key] for key in COUNTED}
        for gpu, times in row["gpus"].items():
            assert times == pytest.approx(committed[row["model"]]["gpus"][gpu])


def test_the_page_is_that_of_the_numbers(simt: Any) -> None:
    rows = json.loads((BENCHMARKS / "results/step_floors.json").read_text())
    assert (BENCHMARKS / "results/step_floors.md").read_text() == _script()["text"](rows)
