"""The command with closed streams, and stopped before it has begun."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fp16engine.cli
from fp16engine.cli import compare
from fp16engine.experiments.report.labels import epochs


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_costs_nothing(monkeypatch, tmp_path, closed):
    monkeypatch.setattr(sys, closed, None)
    arguments = ["train", "--model", "dnn", "--limit", "64", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert fp16engine.cli.main(arguments) == 0
    assert (tmp_path / "run" / "summary.json").exists()
    assert getattr(sys, closed) is None
    assert fp16engine.cli.main(["evaluate", str(tmp_path / "run")]) == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a process")
def test_ctrl_c_during_the_imports_is_one_line():
    # NumPy is the first that the package imports; here it signals the process in place of Ctrl-C
    code = (
        "import os, signal, sys, runpy\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'numpy':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['fp16engine', '--version']\n"
        "from fp16engine.cli import run\n"
        "sys.exit(run())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "fp16engine: stopped\n")


@pytest.mark.parametrize("how", ["-c", "-m"])
def test_importing_the_package_leaves_ctrl_c_alone(tmp_path, how):
    code = "import signal, fp16engine; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text(code)  # runs while sys.argv[0] is "-m"
    (tmp_path / "theirs" / "__main__.py").write_text("")
    words = [sys.executable, how, code if how == "-c" else "theirs"]
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "True\n"


def test_ctrl_c_between_two_runs_of_a_comparison_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "_compared", stopped)
    status = fp16engine.cli.main(
        ["compare", "--limit", "64", "--epochs", "1", "--out", str(tmp_path / "runs")]
    )
    assert status == 130
    assert "continue with --resume" in capsys.readouterr().err


def test_one_epoch_is_singular():
    assert [epochs(n) for n in (0, 1, 2)] == ["0 epochs", "1 epoch", "2 epochs"]
