"""Stored results give their tables, pictures and pages again."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from fp16engine.experiments import study_pages
from fp16engine.experiments.report.parts import Picture, Table
from fp16engine.experiments.runs.store import Store

ROOT = Path(__file__).parents[2] / "benchmarks"
RESULTS = ROOT / "results" / "cpu-amd-epyc-2-cores"
STUDIES = [
    "study/adam-epsilon-digits",
    "study/mnist-dnn",
    "study/one-epoch",
    "study/update-forms",
    "hbfp/table2",
]


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("draw_results", ROOT / "draw_results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", STUDIES)
def test_the_numbers_are_those_of_the_summary(script: Any, folder: str) -> None:
    """Every run stands in its case, arm and seed again: rows of the tables, points of the pictures."""
    summary = _read(RESULTS / folder / study_pages.SUMMARY)
    names = [entry["name"] for entry in summary["experiments"]]
    with Store(":memory:") as store:
        found = script.reported(_read(RESULTS / folder / study_pages.RUNS_JSON), names, store)
    for (results, parts), entry in zip(found, summary["experiments"], strict=True):
        assert len(results.runs) == entry["runs"]["all"]
        tables = {part.name: study_pages.raw(part.rows) for part in parts if isinstance(part, Table)}
        assert tables == {name: table["rows"] for name, table in entry["tables"].items()}
        pictures = {part.name: study_pages.raw(part.values) for part in parts if isinstance(part, Picture)}
        assert pictures == entry["pictures"]


def test_a_page(script: Any, tmp_path: Path) -> None:
    """With the version and the date of its runs. Pictures take longer: the tests of the reports draw some."""
    script.draw(RESULTS / "study/adam-epsilon-digits", tmp_path)
    page = (tmp_path / study_pages.REPORT).read_text(encoding="utf-8")
    summary = _read(RESULTS / "study/adam-epsilon-digits" / study_pages.SUMMARY)
    assert f"fp16engine {summary['version']}, {summary['finished'][:10]}" in page
    cells = [cell for row in summary["experiments"][0]["tables"]["table4"]["cells"] for cell in row]
    assert cells and all(cell in page for cell in cells)


@pytest.mark.parametrize(
    ("folder", "drawn"),
    [
        ("hbfp", ["wasserstein-resnet20"]),
        ("hbfp/figure2", ["hbfp-figure2", "hbfp-figure2-plane"]),
        ("hbfp/table3", ["loss"]),
        ("study/update-forms", []),
    ],
)
def test_pictures(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, drawn: list[str]
) -> None:
    found: list[str] = []
    monkeypatch.setattr(script.plots, "save", lambda figure, out, name: found.append(name) or "")
    script.draw(RESULTS / folder, tmp_path)
    assert found == drawn


def test_what_has_no_picture_makes_no_folder(script: Any, tmp_path: Path) -> None:
    script.draw(RESULTS, tmp_path / "out")
    assert not (tmp_path / "out").exists()
