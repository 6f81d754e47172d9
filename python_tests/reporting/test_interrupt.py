"""Signals: the first stops after the step and saves, the second aborts, handlers are put back."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny_run

import fp16engine as fe
from fp16engine.reporting.interrupt import InterruptGuard
from fp16engine.train import Interrupted
from fp16engine.train.evaluator import Evaluator


class SignalAt:
    """Sends this process a signal at the n-th step (or at the end of an epoch)."""

    def __init__(self, number, step=0, epoch=0):
        self.number, self.at_step, self.at_epoch = number, step, epoch

    def begin(self, *arguments):
        pass

    def step(self, epoch, step, loss, images_per_second):
        if step == self.at_step:
            os.kill(os.getpid(), self.number)

    def epoch(self, record):
        if record.epoch == self.at_epoch:
            os.kill(os.getpid(), self.number)

    def note(self, text):
        pass

    def end(self):
        pass


@pytest.fixture(autouse=True)
def usual_handlers():
    """Python's own handlers; a test run in the background starts with SIGINT ignored."""
    before = handlers()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGTERM, before[1])


def handlers():
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


def fit(trainer, out, progress=False, resume=False):
    return trainer.fit(tiny_run.data(), 3, 16, out, resume, progress)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 4, 6, 11])
def test_a_signal_saves_and_the_run_can_continue(tmp_path, number, step):
    before = handlers()
    whole = tiny_run.trainer()
    fit(whole, tmp_path / "whole")
    trainer = tiny_run.trainer()
    with pytest.raises(
        Interrupted, match=f"stopped by {number.name} after step {step}; .*--resume"
    ) as caught:
        fit(trainer, tmp_path / "out", SignalAt(number, step))
    assert handlers() == before
    assert (caught.value.signal_name, caught.value.step) == (number.name, step)
    assert trainer.step_count == fe.Checkpoint.load(tmp_path / "out").step == step
    again = tiny_run.trainer()
    fit(again, tmp_path / "out", resume=True)
    for key, value in whole.model.state_dict().items():
        assert value.tobytes() == again.model.state_dict()[key].tobytes()


def test_a_signal_between_epochs(tmp_path):
    with pytest.raises(Interrupted):
        fit(tiny_run.trainer(), tmp_path, SignalAt(signal.SIGTERM, epoch=2))
    checkpoint = fe.Checkpoint.load(tmp_path)
    assert (checkpoint.epoch, checkpoint.body["step"]) == (2, 0)


def test_a_signal_during_evaluation_evaluates_again_on_resume(tmp_path, monkeypatch):
    whole = fit(tiny_run.trainer(), tmp_path / "whole")
    trainer = tiny_run.trainer()
    score = Evaluator.score

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return score(*arguments)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(Evaluator, "score", interrupted)
        fit(trainer, tmp_path / "out")
    checkpoint = fe.Checkpoint.load(tmp_path / "out")
    assert (checkpoint.epoch, checkpoint.body["step"]) == (0, 4)
    again = fit(tiny_run.trainer(), tmp_path / "out", resume=True)
    assert [r.test_loss for r in again.epochs] == [r.test_loss for r in whole.epochs]


def test_a_signal_in_the_last_epoch_report_lets_the_run_finish(tmp_path):
    assert len(fit(tiny_run.trainer(), tmp_path, SignalAt(signal.SIGINT, epoch=3)).epochs) == 3


def test_the_second_signal_aborts():
    before = handlers()
    with InterruptGuard() as guard:
        os.kill(os.getpid(), signal.SIGTERM)
        assert guard.requested == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert handlers() == before


def test_an_ignored_signal_stays_ignored(tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert len(fit(tiny_run.trainer(), tmp_path, SignalAt(signal.SIGINT, 2)).epochs) == 3
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_without_out_signals_do_what_they_always_did():
    with pytest.raises(KeyboardInterrupt):
        tiny_run.trainer().fit(tiny_run.data(), 3, 16, progress=SignalAt(signal.SIGINT, 2))


def test_other_threads_train_without_handlers(tmp_path):
    before, found = handlers(), []

    def work():
        found.append(len(fit(tiny_run.trainer(), tmp_path).epochs))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [3] and handlers() == before


@pytest.mark.slow
def test_kill_from_outside_leaves_a_run_to_resume(tmp_path):
    code = (
        "import tiny_run, time\n"
        "class Slow(tiny_run.KillAtStep):\n"
        "    def step(self, *arguments):\n"
        "        print('step', flush=True); time.sleep(0.2)\n"
        f"tiny_run.trainer().fit(tiny_run.data(), 99, 16, {str(tmp_path)!r}, progress=Slow(0))\n"
    )
    path = [str(Path(fe.__file__).parents[1]), str(Path(__file__).parents[1])]
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(2):
        process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Interrupted: stopped by SIGTERM after step" in error.splitlines()[-1]
    assert 2 <= fe.Checkpoint.load(tmp_path).step <= 4
