"""A resumed run gives the same bits as one that was never stopped, wherever it was stopped."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run
from tiny_run import StopAt, fit, outcome

import fp16engine as fe
from fp16engine.train.notes import own_decays

ROOT = Path(fe.__file__).parents[1]
SCRIPT = Path(tiny_run.__file__)


def run(out, device, precision, optimizer, moment="never", at=0):
    """tiny_run.py in a process of its own; its exit status."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TINY_DEVICE": device}
    command = [sys.executable, str(SCRIPT), str(out), precision, optimizer, moment, str(at)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "precision", "optimizer"), [("reference", "fp16", "sgd"), ("cpu", "mp", "adam")]
)
def test_kill_at_any_step_and_within_saves(tmp_path, cpu, device, precision, optimizer):
    """What a killed run finds on the disk is the same on every device; the next test resumes on each."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(whole, device, precision, optimizer) == 0
    rng = random.Random(precision)
    # replace: 1 and 2 are the tensors and the JSON of a save, in the first run 3 is metrics.jsonl
    moments = [("replace", 2), ("step", rng.randint(1, 4)), ("replace", 3), ("fsync", rng.randint(2, 7))]
    moments += [("step", 1), ("replace", 2), ("unlink", 1), ("step", 2), ("fsync", 12)]
    for moment, at in moments:
        assert run(broken, device, precision, optimizer, moment, at) == -signal.SIGKILL, (moment, at)
    assert run(broken, device, precision, optimizer) == 0
    assert outcome(broken) == outcome(whole)
    names = [path.name for path in broken.iterdir()]
    assert len(names) == 4, names  # one tensor file, checkpoint.json, metrics.jsonl, summary.json


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "optimizer", "schedule"),
    [
        ("fp32", "sgd", "constant"),
        ("fp32", "rmsprop", "cosine"),
        ("fp16", "sgd", "cosine"),
        ("fp16", "adamw", "constant"),
        ("fp16-strict", "rmsprop", "constant"),
        ("mp", "sgd", "constant"),
        ("mp", "adamw", "cosine"),
    ],
)
def test_resume_from_the_middle_of_an_epoch(tmp_path, backend_name, precision, optimizer, schedule):
    def trainer():
        return tiny_run.trainer(precision, backend_name, optimizer=optimizer, schedule=schedule, lr=0.01)

    fit(trainer(), tmp_path / "whole")
    with pytest.raises(MemoryError):
        fit(trainer(), tmp_path / "broken", progress=StopAt(7))
    assert fe.Checkpoint.load(tmp_path / "broken").body["step"] == 2
    history = fit(trainer(), tmp_path / "broken", resume=True)
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole")
    assert [record.epoch for record in history.epochs] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [("adam", {"update": "stochastic"}), ("sgd", {"update": "kahan", "clip_norm": 0.1}), ("rmsprop", {})],
)
def test_resume_of_other_updates(tmp_path, optimizer, options):
    def trainer():
        return tiny_run.trainer("fp16", optimizer=optimizer, lr=0.01, **options)

    fit(trainer(), tmp_path / "whole")
    with pytest.raises(MemoryError):
        fit(trainer(), tmp_path / "broken", progress=StopAt(7))
    fit(trainer(), tmp_path / "broken", resume=True)
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole")


def test_resume_at_the_last_step_of_an_epoch(tmp_path):
    fit(tiny_run.trainer(), tmp_path / "whole")
    with pytest.raises(MemoryError):
        fit(tiny_run.trainer(), tmp_path / "broken", progress=StopAt(9))
    checkpoint = fe.Checkpoint.load(tmp_path / "broken")
    assert (checkpoint.epoch, checkpoint.body["step"]) == (2, 0)
    fit(tiny_run.trainer(), tmp_path / "broken", resume=True)
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole")


def test_more_epochs_than_planned(tmp_path):
    fit(tiny_run.trainer(), tmp_path / "whole", epochs=4)
    fit(tiny_run.trainer(), tmp_path / "parts", epochs=2)
    fit(tiny_run.trainer(), tmp_path / "parts", epochs=4, resume=True)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_a_finished_run_is_handed_back(tmp_path):
    first = fit(tiny_run.trainer(), tmp_path)
    before = outcome(tmp_path)
    trainer = tiny_run.trainer()
    second = fit(trainer, tmp_path, resume=True)
    assert second.summary() == first.summary()
    assert outcome(tmp_path) == before
    assert trainer.evaluate(tiny_run.data())[0] == first.epochs[-1].test_accuracy


def test_rows_past_the_checkpoint_are_cut(tmp_path):
    fit(tiny_run.trainer(), tmp_path, epochs=2)
    metrics = tmp_path / "metrics.jsonl"
    rows = metrics.read_text()
    later = '{"kind": "step", "step": 9, "epoch": 3}\n{"kind": "epoch", "step": 12, "epoch": 3}\n{"kind": "st'
    metrics.write_text(rows + later)
    fit(tiny_run.trainer(), tmp_path, epochs=2, resume=True)
    assert metrics.read_text() == rows


def test_lost_metrics_do_not_stop_a_resume(tmp_path):
    fit(tiny_run.trainer(), tmp_path, epochs=1)
    (tmp_path / "metrics.jsonl").unlink()
    fit(tiny_run.trainer(), tmp_path, epochs=2, resume=True)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 6, 7, 8, 8]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "options", "words"),
    [
        ({"precision": "mp"}, {}, "precision: the checkpoint has 'fp16', this run has 'mp'"),
        ({"seed": 4}, {}, "seed: the checkpoint has 3, this run has 4"),
        ({"lr": 0.1}, {}, "lr: the checkpoint has 0.05, this run has 0.1"),
        ({"momentum": 0.5}, {}, "momentum: the checkpoint has 0.9"),
        ({"optimizer": "adam"}, {}, "optimizer: the checkpoint has 'sgd', this run has 'adam'"),
        ({"schedule": "cosine"}, {}, "schedule: the checkpoint has 'constant'"),
        ({"augment": "study"}, {}, "augment: the checkpoint has None"),
        ({"update": "kahan"}, {}, r"precision: the checkpoint has 'fp16', this run has 'fp16\+kahan'"),
        ({"clip_norm": 1.0}, {}, "clip_norm: the checkpoint has None, this run has 1.0"),
        ({}, {"batch_size": 8}, "batch_size: the checkpoint has 16, this run has 8"),
        ({}, {"epochs": 1}, "epochs: it is in epoch 2, this run has 1"),
        ({}, {"data": tiny_run.data(seed=1)}, "the samples of 'tiny' are not the ones"),
        ({}, {"data": tiny_run.data(40)}, "data.train: the checkpoint has 50, this run has 40"),
        (
            {},
            {"data": tiny_run.data(name="other")},
            "data.name: the checkpoint has 'tiny', this run has 'other'",
        ),
    ],
)
def test_another_run_is_refused_and_nothing_changes(tmp_path, trainer, options, words):
    fit(tiny_run.trainer(), tmp_path, epochs=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = tiny_run.trainer(**trainer)
    weights = {key: value.tobytes() for key, value in other.model.state_dict().items()}
    options = {"data": tiny_run.data(), "epochs": 3, "batch_size": 16, **options}
    with pytest.raises(fe.CheckpointError, match=f"must be of this run, got another: .*{words}"):
        other.fit(
            options["data"], options["epochs"], options["batch_size"], tmp_path, resume=True, progress=False
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert {key: value.tobytes() for key, value in other.model.state_dict().items()} == weights
    assert other.step_count == 0


def test_cosine_cannot_be_stretched(tmp_path):
    fit(tiny_run.trainer(schedule="cosine"), tmp_path, epochs=1)
    with pytest.raises(fe.CheckpointError, match="the cosine schedule was laid out for 1, this run has 2"):
        fit(tiny_run.trainer(schedule="cosine"), tmp_path, epochs=2, resume=True)


def test_nothing_to_resume(tmp_path):
    for out in (tmp_path, tmp_path / "missing"):
        with pytest.raises(fe.CheckpointError, match=r"resume: .* must hold checkpoint.json"):
            fit(tiny_run.trainer(), out, resume=True)
    assert list(tmp_path.iterdir()) == []


def test_another_device_is_allowed_with_a_warning(tmp_path, monkeypatch):
    fit(tiny_run.trainer(), tmp_path, epochs=1)
    document = json.loads((tmp_path / "checkpoint.json").read_text())
    document["checkpoint"]["device"] = "cuda:0"
    document["sha256"] = fe.train.checkpoint._digest(document["checkpoint"])
    (tmp_path / "checkpoint.json").write_text(json.dumps(document))
    with pytest.warns(UserWarning, match="started on 'cuda:0': on '.*' its bits will differ"):
        fit(tiny_run.trainer(), tmp_path, epochs=2, resume=True)


def test_other_libraries_are_allowed_with_a_warning(tmp_path, monkeypatch):
    """A run on a CPU without FMA instructions may get other bits, and says so."""
    fit(tiny_run.trainer(), tmp_path, epochs=1)
    fit(tiny_run.trainer(), tmp_path, epochs=2, resume=True)  # no warning here
    monkeypatch.setattr("fp16engine.train.checkpoint.libraries", lambda device: {"fma": False})
    with pytest.warns(UserWarning, match="fma: the checkpoint has .*, this run has False: from here on"):
        fit(tiny_run.trainer(), tmp_path, epochs=3, resume=True)


def test_a_checkpoint_says_whether_the_cpu_fuses_dot_products():
    pytest.importorskip("fp16engine._cpu")
    assert set(fe.train.checkpoint.libraries("cpu")) == {"fma"}


def test_kernels_with_their_own_l2_are_told():
    assert own_decays(0.0, fe.models.create("resnet20")) is None and own_decays(0.1, tiny_run.model()) is None
    text = own_decays(0.001, fe.models.create("resnet20"))
    assert (
        text is not None
        and text.startswith("weight_decay 0.001 is for ")
        and "keep their own L2 factor, 0.0002" in text
    )
