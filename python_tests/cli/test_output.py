"""Tables and sentences at any width: words stay whole, nothing is lost, names keep their end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16engine.cli import output
from fp16engine.reporting import tables

HEAD = ("layer", "largest", "beyond 65504", "gradient to 0", "weights' to 0", "updates lost")
ROWS = [
    (f"stage{i}.block{j}.conv{k}", "2^12", "<1 %", "12 %", "3 %", "99 %")
    for i in (1, 2)
    for j in (1, 2)
    for k in (1, 2)
]


@pytest.mark.parametrize("width", [None, 40, 50, 60, 72, 80, 100, 200])
def test_a_table_is_as_wide_as_the_terminal_and_shows_all(width):
    lines = tables.table_lines(HEAD, ROWS, 1, width)
    text = "\n".join(lines)
    assert width is None or max(map(len, lines)) <= width
    assert text.count("99 %") == text.count("2^12") == len(ROWS)
    names = {line.split()[0] for line in lines if "conv" in line}
    assert len(names) == len(ROWS) and all(name.endswith(("conv1", "conv2")) for name in names)
    for name in HEAD[1:]:
        assert all(word in text for word in name.split())


def test_names_that_differ_at_their_end_stay_different():
    rows = [(f"encoder.attention.projection.{i}", *["1,234.5"] * 4) for i in range(12)]
    lines = tables.table_lines(("layer", "a", "b", "c", "d"), rows, 1, 60)
    assert max(map(len, lines)) <= 60
    assert len(set(lines)) == len(lines)


@given(st.text("abc .0", min_size=1, max_size=40), st.integers(4, 50))
def test_a_shortened_name_keeps_its_end(name, width):
    short = tables.shortened(name, width)
    assert len(short) <= width
    assert short == name if len(name) <= width else name.endswith(short.split("…")[1])


@given(st.lists(st.text("abcdef%-+.", min_size=1, max_size=30), max_size=30), st.integers(40, 100))
def test_words_stay_whole(words, width):
    lines = tables.wrapped(" ".join(words), width, "  ")
    assert " ".join(lines).split() == words
    assert all(len(line) <= width for line in lines)


def test_a_pipe_gets_one_line_per_row(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    output.print_table("title", HEAD, ROWS)
    assert len(capsys.readouterr().out.splitlines()) == len(ROWS) + 2
    monkeypatch.setenv("COLUMNS", "60")
    output.print_table("title", HEAD, ROWS)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60
