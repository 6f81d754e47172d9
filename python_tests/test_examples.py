"""The examples run as a user runs them, are short, and are all listed."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import fp16engine as fe

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
# Shares that an example must reach: it shows how to train, so it trains.
LEAST = {"custom_loop": 80, "own_loss": 80, "schedule": 80, "summary": 60, "transfer": 70, "own_arrays": 95}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    state = fe.random.get_state()
    runpy.run_path(str(path), run_name="__main__")
    fe.random.set_state(state)
    out = capsys.readouterr().out
    assert out.strip() and not list(tmp_path.iterdir())
    if path.stem in LEAST:
        shares = [float(word.rstrip("%:")) for word in out.split() if word.rstrip(":").endswith("%")]
        assert shares[-1] >= LEAST[path.stem]
    if "same" in out:
        assert "True" in out and "False" not in out


def test_examples_are_short_and_listed() -> None:
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES:
        assert f"]({path.name})" in listed
        assert 20 <= len(path.read_text(encoding="utf-8").splitlines()) <= 60, path.name
    assert len(EXAMPLES) == listed.count("](") >= 11
