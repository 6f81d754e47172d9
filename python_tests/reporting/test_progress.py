"""What people see: lines in a pipe, a bar on a terminal, nothing when asked for nothing."""

import io
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run

import fp16engine as fe
from fp16engine.reporting import progress
from fp16engine.reporting.history import EpochRecord

DASH = "\N{EN DASH}"
RECORD = EpochRecord(2, 0.12345, 0.961, 0.2, 0.95, 1.5, 4100.4, 0, 0, None, 0.1)
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(Path(fe.__file__).parents[1]), str(Path(__file__).parents[1])]),
}
FIT = "import tiny_run; tiny_run.trainer().fit(tiny_run.data(), 2, 16)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (11220, "3 h 07 min"),
        (86_399, "23 h 59 min"),
        (86_400, "1 day"),
        (93_600, "1 day 2 h"),
        (2.99999 * 86_400, "3 days"),
        (200 * 86_400, "200 days"),
        (365 * 86_400, "1 year"),
        (5.5 * 365 * 86_400, "5.5 years"),
    ],
)
def test_duration(seconds, text):
    assert progress.duration(seconds) == text


def test_epoch_line():
    line = progress.epoch_line(RECORD, 10)
    assert line == "epoch 2/10  loss 0.1235  train 96.1 %  test 95.0 %  4,100 img/s"
    fields = {**RECORD.to_json(), "skipped": 3, "nonfinite": 1}
    assert progress.epoch_line(EpochRecord(**fields), 10) == line + "  3 skipped  1 not finite"


@pytest.mark.parametrize(
    ("loss", "text"),
    [(0.0, "0.0000"), (2.30258, "2.3026"), (9999.5, "9999.5000"), (12345.6, "1.2e+04"), (1.2e38, "1.2e+38"),
     (-3e20, "-3e+20"), (math.nan, DASH), (math.inf, DASH), (None, DASH)],
)  # fmt: skip
def test_a_loss_of_any_size_is_short(loss, text):
    assert progress.loss_text(loss) == text


def test_a_diverged_epoch_has_dashes():
    lost = EpochRecord(**{**RECORD.to_json(), "train_loss": math.nan, "train_accuracy": math.nan})
    assert progress.epoch_line(lost, 10) == f"epoch 2/10  loss {DASH}  train {DASH}  test 95.0 %  4,100 img/s"


def test_plain_lines():
    stream = io.StringIO()
    lines = progress.PlainLines(stream, interval=0.0)
    lines.begin("title", 10, 100, 0)
    lines.step(1, 10, 0.5, 1234.5)
    lines.epoch(RECORD)
    lines.note("a note")
    lines.end()
    title, step, epoch, note = stream.getvalue().splitlines()
    assert (title, note) == ("title", "a note")
    assert step == "epoch 1/10  step 10/100  loss 0.5000  1,234 img/s  0 s left"
    assert epoch.startswith(progress.epoch_line(RECORD, 10)) and epoch.endswith(" left")


def test_plain_lines_say_nothing_between_epochs_of_seconds():
    stream = io.StringIO()
    lines = progress.PlainLines(stream)
    lines.begin("title", 2, 100, 0)
    for step in range(100):
        lines.step(1, step, 0.5, 10.0)
    assert stream.getvalue() == "title\n"


@pytest.mark.slow
def test_pipe_gets_plain_lines_on_standard_error_only():
    done = subprocess.run(
        [sys.executable, "-c", FIT], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("Sequential (243 parameters) on tiny, fp16 on")
    assert [line.split("  ")[0] for line in lines[1:]] == ["epoch 1/2", "epoch 2/2"]
    assert "\x1b" not in done.stderr and "\r" not in done.stderr


@pytest.mark.slow
def test_terminal_gets_a_bar():
    pytest.importorskip("rich")
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", FIT],
        env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(60) == 0
    text = shown.decode()
    assert "\x1b[" in text and "img/s" in text and "8/8" in text and " left" in text
    assert "epoch 2/2  loss" in text


def test_terminal_without_rich_gets_plain_lines(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(progress.reporter(None), progress.PlainLines)


def test_choice_of_reporter(capsys):
    assert isinstance(progress.reporter(False), progress.Silent)
    assert isinstance(progress.reporter(True), progress.PlainLines)
    own = progress.Silent()
    assert progress.reporter(own) is own
    tiny_run.trainer().fit(tiny_run.data(), 1, 16, progress=False)
    assert capsys.readouterr() == ("", "")
