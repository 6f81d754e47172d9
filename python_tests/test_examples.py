"""The examples run as a user runs them, are short, and are all listed."""

from __future__ import annotations

import ast
import io
import runpy
import tokenize
from pathlib import Path

import pytest

import fp16engine as fe

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
# Shares that an example must reach: it shows how to train, so it trains.
LEAST = {
    "custom_loop": 80,
    "own_arrays": 95,
    "own_loss": 80,
    "schedule": 80,
    "summary": 60,
    "torch_weights": 90,
    "transfer": 70,
}
MOST_CODE = 15  # lines, without docstrings, comments and blank ones
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """Return how many lines hold code: more than a comment, and outside docstrings."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {
        line
        for token in tokens
        if token.type not in _NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            doc = node.body[0]
            lines -= set(range(doc.lineno, (doc.end_lineno or 0) + 1))
    return len(lines)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if path.stem == "torch_weights":
        pytest.importorskip("torch")
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
        source = path.read_text(encoding="utf-8")
        assert 20 <= len(source.splitlines()) <= 60, path.name
        assert code_lines(source) <= MOST_CODE, path.name
    assert len(EXAMPLES) == listed.count("](") >= 11


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('"""Doc\nstring."""\n\nx = 1  # said here\n', 1),
        ('def f():\n    """Doc."""\n    # why\n    return (\n        1,\n    )\n', 4),
        ('x = """two\nlines"""\n', 2),
    ],
)
def test_code_lines_are_those_of_code(source: str, lines: int) -> None:
    assert code_lines(source) == lines
