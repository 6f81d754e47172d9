"""What the documents say works: Python blocks run, command lines parse, links and pictures lead somewhere."""

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
LINKED = [
    *DOCUMENTS,
    *(ROOT / name for name in ("CHANGELOG.md", "examples/README.md", "benchmarks/README.md")),
]
_LINK = re.compile(r"\]\((?!\w+:)([^)\s#]*)(#[^)\s]*)?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


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


def _anchors(path: Path) -> set[str]:
    """Return the names that GitHub gives to the headings of a document."""
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    headings = (heading.strip().lower() for heading in _HEADING.findall(text))
    return {"#" + re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def broken_links(path: Path, text: str) -> list[str]:
    """Return the links to files and headings of the repository that lead nowhere."""
    found = []
    for target, anchor in _LINK.findall(_FENCED.sub("", text)):
        file = path.parent / target if target else path
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            found.append(target + anchor)
    return found


@pytest.mark.parametrize("path", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert not broken_links(path, path.read_text(encoding="utf-8"))


def test_a_broken_link_is_found() -> None:
    links = (
        "![a](no.png) [b](docs/nothing.md) [c](docs/hbfp.md#nowhere) [d](docs/hbfp.md#names) [e](#nowhere)"
    )
    expected = ["no.png", "docs/nothing.md", "docs/hbfp.md#nowhere", "#nowhere"]
    assert broken_links(ROOT / "README.md", links) == expected


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_page_installs_from_an_index(path: Path) -> None:
    """The package is in no index: a page installs from a clone, or from a folder of wheels."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.search(r"pip install[^`&]*\bfp16engine", line):
            assert "--find-links" in line, line
