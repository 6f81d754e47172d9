"""Callbacks: the order in which they are told, an early end, the best checkpoint, and both after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_run

import fp16engine as fe
from fp16engine.reporting.history import EpochRecord, History
from fp16engine.train import BestCheckpoint, Callback, EarlyStopping


class Log(Callback):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_start(self, trainer: fe.Trainer) -> None:
        self.calls.append("start")

    def on_step(self, trainer: fe.Trainer, result: fe.train.StepResult) -> None:
        assert result.applied and trainer.step_count == self.calls.count("step") + 1
        self.calls.append("step")

    def on_epoch(self, trainer: fe.Trainer, row: EpochRecord) -> None:
        assert trainer.history.epochs[-1] is row
        self.calls.append(f"epoch {row.epoch}")

    def on_end(self, trainer: fe.Trainer) -> None:
        self.calls.append("end")


def fit(*callbacks: Callback, epochs: int = 2, **options: Any) -> tuple[fe.Trainer, History]:
    trainer = tiny_run.trainer(callbacks=callbacks)
    given = {"epochs": epochs, "batch_size": tiny_run.BATCH, "progress": False, **options}
    return trainer, trainer.fit(tiny_run.data(), **given)


def test_the_order_of_calls() -> None:
    log = Log()
    fit(log)
    assert log.calls == ["start", *["step"] * 4, "epoch 1", *["step"] * 4, "epoch 2", "end"]


def test_callbacks_change_no_bit() -> None:
    states = [trainer.model.state_dict() for trainer, _ in (fit(), fit(Log(), EarlyStopping()))]
    assert all((states[0][name] == states[1][name]).all() for name in states[0])


def test_an_epoch_without_improvement_ends_training_and_stays_the_end(tmp_path: Path) -> None:
    stop = EarlyStopping("test_accuracy", patience=1, least_change=1.0)
    trainer, history = fit(stop, epochs=9, out=tmp_path)
    assert len(history.epochs) == 2
    assert trainer.ending == history.run["ended"] == "test_accuracy has not become better since epoch 1"
    _, resumed = fit(EarlyStopping("test_accuracy", 1, 1.0), epochs=9, out=tmp_path, resume=True)
    assert len(resumed.epochs) == 2
    _, longer = fit(EarlyStopping("test_accuracy", 2, 1.0), epochs=9, out=tmp_path, resume=True)
    assert len(longer.epochs) == 3


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("test_accuracy", [0.5, 0.7, 0.7, 0.6], 2),
        ("test_loss", [0.5, 0.7, 0.3, 0.3], 3),
        ("train_loss", [float("nan"), 0.7, float("nan"), 0.8], 2),
    ],
)
def test_which_epoch_is_best(monitor: str, values: list[float], best: int, tmp_path: Path) -> None:
    trainer = tiny_run.trainer()
    keep = BestCheckpoint(tmp_path / "best", monitor)
    keep.on_start(trainer)
    for number, value in enumerate(values, 1):
        figures = dict.fromkeys(("train_loss", "train_accuracy", "test_loss", "test_accuracy"), 0.1)
        row = EpochRecord(number, **{**figures, monitor: value}, seconds=1.0, images_per_second=1.0,
                          skipped=0, nonfinite=0, loss_scale=None, lr=0.1)  # fmt: skip
        keep.on_epoch(trainer, row)
    assert keep.best_epoch == best and keep.best == values[best - 1]


def test_the_best_checkpoint_is_that_of_the_best_epoch(tmp_path: Path) -> None:
    class Keep(Callback):
        def __init__(self) -> None:
            self.weights: list[bytes] = []

        def on_epoch(self, trainer: fe.Trainer, row: EpochRecord) -> None:
            self.weights.append(next(trainer.model.parameters()).numpy().tobytes())

    keep, best = Keep(), BestCheckpoint(tmp_path / "best", "train_loss")
    fit(keep, best, epochs=3, out=tmp_path / "run")
    saved = fe.Checkpoint.load(tmp_path / "best")
    assert saved.epoch == best.best_epoch
    assert saved.tensors["model.0.weight"].tobytes() == keep.weights[best.best_epoch - 1]
    assert fe.Checkpoint.load(tmp_path / "run").epoch == 3
    with pytest.raises(ValueError, match="folder must be one without a run"):
        fit(BestCheckpoint(tmp_path / "best"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EarlyStopping("accuracy"), "monitor must be one of test_accuracy, .*, got 'accuracy'"),
        (lambda: EarlyStopping(patience=0), "patience must be an integer >= 1, got 0"),
        (lambda: EarlyStopping(least_change=float("nan")), "least_change must be .*, got nan"),
        (lambda: BestCheckpoint(""), "folder must be a path, got ''"),
    ],
)
def test_wrong_arguments(make: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{words}"):
        make()
