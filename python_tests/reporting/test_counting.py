"""What a long task shows: lines now and then in a pipe, a bar on a terminal, or nothing."""

from __future__ import annotations

import io
import sys

import pytest

from fp16engine.reporting import counting as module
from fp16engine.reporting.counting import counting


def test_nothing_is_shown_where_nobody_asks(capsys: pytest.CaptureFixture[str]) -> None:
    with counting("decoding", 3, shown=False) as done:
        done(3)
    assert capsys.readouterr() == ("", "")


def test_a_short_task_shows_nothing_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with counting("decoding", 3, shown=True) as done:
        done(1)
        done(2)
    assert capsys.readouterr() == ("", "")


def test_lines_come_every_half_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((0.0, 10.0, 31.0, 40.0, 62.0))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    with counting("decoding", 4000, shown=True) as done:
        for _ in range(4):
            done(500)
    assert capsys.readouterr().err.splitlines() == [
        "decoding: 1,000 of 4,000, 1 min 33 s left",
        "decoding: 2,000 of 4,000, 1 min 02 s left",
    ]


def test_a_bar_counts_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with counting("decoding", 7, shown=True) as done:
        done(3)
        done(4)
    assert "decoding" in sys.stderr.getvalue() and "7/7" in sys.stderr.getvalue()
