"""What the documents say works: Python blocks run, command lines parse, pictures exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import fp16engine as fe
from fp16engine.cli.commands import build

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"!\[[^]]*\]\(([^)]+)\)")


def _blocks(language: str) -> list[tuple[str, str]]:
    return [
        (f"{path.name}-{number}", body)
        for path in DOCUMENTS
        for number, (kind, body) in enumerate(_BLOCK.findall(path.read_text(encoding="utf-8")))
        if kind == language
    ]


def _commands() -> list[str]:
    lines = [line for _, body in _blocks("bash") for line in body.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part.startswith("fp16engine ")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), _blocks("python"), ids=lambda v: v if len(v) < 40 else "")
def test_python_runs(
    name: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "fp16engine.torch" in code:
        pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fp16engine[torch]'")
    monkeypatch.chdir(tmp_path)
    state = fe.random.get_state()
    exec(compile(code, name, "exec"), {"__name__": "__main__"})
    fe.random.set_state(state)
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("command", _commands())
def test_command_lines_parse(command: str) -> None:
    build().parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_pictures_exist(path: Path) -> None:
    for target in _PICTURE.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / target).is_file(), target
