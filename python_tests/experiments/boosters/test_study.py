"""Tables and figures of block floating point: what they say, and a small run of each through the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fp16engine import Precision, cli
from fp16engine.experiments.boosters import area, figures, study

pytestmark = pytest.mark.slow

SMALL = ["--data", "digits", "--models", "resnet8", "--epochs", "2", "--limit", "96", "--threads", "1"]


def _printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert cli.main(["reproduce", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_format_of_the_paper_has_a_run() -> None:
    """Its figures are listed under the names that policies have, and only under those that are trained."""
    for case, printed in study.PAPER.items():
        arms = {
            arm.precision
            for experiment in study.EXPERIMENTS.values()
            for arm in experiment.arms
            if any((c.model, c.data) == case for c in experiment.cases)
        }
        assert set(printed) <= arms
        assert all(Precision.get(name).name == name for name in printed)


def test_density_puts_ours_against_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    rows = _printed(capsys, "hbfp-density")["rows"]
    by = {(row["format"], row["block"]): row for row in rows}
    assert by["FP32", 64]["gain"] == 1
    assert by["HBFP4", 64]["gain"] == area.gain(area.block_unit(4, 64), 64)
    assert by["HBFP4", 64]["paper"] == 21.3
    assert by["HBFP6", 64]["ratio"] == pytest.approx(1, abs=0.05)
    assert len([row for row in rows if row["paper"]]) == len(study.PAPER_GAINS)


def test_density_takes_no_options_of_trainings(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", "hbfp-density", "--epochs", "3"]) == 2
    assert "--epochs must not be given with hbfp-density" in capsys.readouterr().err


def test_a_table_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--out", str(tmp_path), "--precisions", "fp32,hbfp4,booster", *SMALL]
    summary = json.dumps(_printed(capsys, "hbfp-table2", *options))
    for name in ("fp32", "hbfp4", "booster"):
        assert f'"precision": "{name}"' in summary
    assert "the booster" in summary
    assert "2 of 160 epochs" in summary


def test_distances_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: None) -> None:
    found = _printed(capsys, "hbfp-figure1", "--out", str(tmp_path), *SMALL)
    assert set(found["ratios"]) == {str(block) for block in figures.BLOCKS}
    layers = {row["layer"] for row in found["distances"]}
    assert all(len(values) == len(layers) for values in found["ratios"].values())
    assert min(min(values) for values in found["ratios"].values()) > 1
    assert (tmp_path / "hbfp-figure1" / "hbfp-figure1.svg").stat().st_size > 1000


def test_landscapes_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--out", str(tmp_path), "--precisions", "fp32,hbfp4", *SMALL]
    found = _printed(capsys, "hbfp-figure2", *options)
    again = _printed(capsys, "hbfp-figure2", *options)  # nothing is trained twice
    assert found == again
    assert set(found["losses"]) == {"fp32", "hbfp4"}
    middle = len(found["steps"]) // 2
    assert found["steps"][middle] == 0
    for values in found["losses"].values():
        assert len(set(values)) == len(values)


def test_landscapes_over_a_plane(tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: None) -> None:
    """The middle of every plane is the middle of the lines: the trained weights themselves."""
    options = ["--out", str(tmp_path), "--precisions", "fp32,hbfp4", "--plane", "3", *SMALL]
    found = _printed(capsys, "hbfp-figure2", *options)
    assert found["plane_steps"] == [-1, 0, 1]
    for name, losses in found["losses"].items():
        grid = found["planes"][name]
        assert grid[1][1] == losses[len(losses) // 2] < min(grid[0][0], grid[2][2])
        assert [grid[0][1], grid[2][1]] == [losses[0], losses[-1]]
    assert (tmp_path / "hbfp-figure2" / "hbfp-figure2-plane.png").stat().st_size > 1000


@pytest.mark.parametrize("what", ["hbfp-figure1", "hbfp-table2", "table2", "hbfp-density", "hbfp-table3"])
def test_only_landscapes_have_a_plane(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", what, "--plane", "5", "--out", str(tmp_path)]) == 2
    assert f"--plane must not be given with {what}, got 5" in capsys.readouterr().err
