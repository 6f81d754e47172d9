"""What a user's own code does during `fit`: `Callback`, `EarlyStopping`, `BestCheckpoint`."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from ..reporting.history import EpochRecord
from ..validate import choice, integer, number
from ..validate import path as checked_path
from .checkpoint import FILE_NAME
from .counters import StepResult

if TYPE_CHECKING:
    from .trainer import Trainer

MONITORED = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")


class Callback:
    """Is told of the course of `Trainer.fit`; a class of one's own overrides what it wants to know.

    Callbacks are no part of a checkpoint: `on_start` of a resumed run finds the epochs so far in
    `trainer.history`. With `on_step` a GPU's steps are not captured.

    >>> import fp16engine as fe
    >>> class Say(fe.train.Callback):
    ...     def on_epoch(self, trainer, row):
    ...         print("epoch", row.epoch, "of", trainer.precision.name)
    >>> digits, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
    >>> history = fe.Trainer(model, callbacks=[Say()]).fit(digits, epochs=1, progress=False)
    epoch 1 of fp16
    """

    def on_start(self, trainer: Trainer) -> None:
        """Is called before the first step.

        Args:
            trainer: that trains.

        >>> Callback().on_start(None)
        """

    def on_step(self, trainer: Trainer, result: StepResult) -> None:
        """Is called after every step.

        Args:
            trainer: that trains.
            result: of the step.

        >>> Callback().on_step(None, StepResult(0.5, True))
        """

    def on_epoch(self, trainer: Trainer, row: EpochRecord) -> None:
        """Is called after every epoch and its evaluation, before the checkpoint is written.

        Args:
            trainer: that trains; its `end_training` makes this epoch the last.
            row: what the epoch measured.

        >>> Callback().on_epoch(None, None)
        """

    def on_end(self, trainer: Trainer) -> None:
        """Is called when training has come to its end, not where a signal or an error ends it.

        Args:
            trainer: that trained.

        >>> Callback().on_end(None)
        """


class _Best(Callback):
    """Follows the best epoch by one figure; nan is never better."""

    def __init__(self, monitor: str, least_change: float) -> None:
        self.monitor = choice("monitor", monitor, MONITORED)
        self.least_change = number("least_change", least_change, minimum=0)
        self._sign = 1.0 if monitor.endswith("accuracy") else -1.0
        self._restart()

    def _restart(self) -> None:
        self.best, self.best_epoch, self.waited = math.nan, 0, 0

    def on_start(self, trainer: Trainer) -> None:
        self._restart()
        for row in trainer.history.epochs:
            self._improved(row)

    def _improved(self, row: EpochRecord) -> bool:
        """Take an epoch into account; tell whether it is the best so far."""
        value: float = getattr(row, self.monitor)
        gain = self._sign * (value - self.best)
        if math.isnan(value) or not (math.isnan(self.best) or gain > self.least_change):
            self.waited += 1
            return False
        self.best, self.best_epoch, self.waited = value, row.epoch, 0
        return True


class EarlyStopping(_Best):
    """Ends training when a figure has not become better for some epochs; weights stay those of the last one.

    Args:
        monitor: "test_accuracy", "test_loss", "train_accuracy" or "train_loss".
        patience: epochs in a row without a better figure that end training, >= 1.
        least_change: by how much a better figure is better, >= 0.

    Attributes:
        best: the best figure, nan before the first.
        best_epoch: when it was, from 1.

    A resumed run counts the epochs before it, too.

    Raises:
        ValueError: an argument is out of range.
        TypeError: an argument is of the wrong kind.

    >>> import fp16engine as fe
    >>> digits, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
    >>> trainer = fe.Trainer(model, callbacks=[fe.train.EarlyStopping(patience=1, least_change=1.0)])
    >>> len(trainer.fit(digits, epochs=9, progress=False).epochs)
    2
    """

    def __init__(self, monitor: str = "test_loss", patience: int = 3, least_change: float = 0.0) -> None:
        super().__init__(monitor, least_change)
        self.patience = integer("patience", patience, 1)

    def on_start(self, trainer: Trainer) -> None:
        super().on_start(trainer)
        self._judge(trainer)

    def on_epoch(self, trainer: Trainer, row: EpochRecord) -> None:
        self._improved(row)
        self._judge(trainer)

    def _judge(self, trainer: Trainer) -> None:
        if self.waited >= self.patience:
            since = f"since epoch {self.best_epoch}" if self.best_epoch else "in any epoch"
            trainer.end_training(f"{self.monitor} has not become better {since}")


class BestCheckpoint(_Best):
    """Keeps a checkpoint of the best epoch, which `fe.load` and `Checkpoint.load` take.

    Args:
        folder: for the checkpoint alone, not the run's own.
        monitor: "test_accuracy", "test_loss", "train_accuracy" or "train_loss".
        least_change: by how much a better figure is better, >= 0.

    Attributes:
        best: the best figure, nan before the first.
        best_epoch: when it was, from 1.

    Raises:
        ValueError: an argument is out of range; when training starts, the folder holds another run.
        TypeError: an argument is of the wrong kind.

    >>> import tempfile
    >>> import fp16engine as fe
    >>> digits, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     best = fe.train.BestCheckpoint(folder)
    ...     _ = fe.Trainer(model, callbacks=[best]).fit(digits, epochs=2, progress=False)
    ...     fe.Checkpoint.load(folder).epoch == best.best_epoch
    True
    """

    def __init__(
        self, folder: str | os.PathLike[str], monitor: str = "test_accuracy", least_change: float = 0.0
    ) -> None:
        super().__init__(monitor, least_change)
        self.folder = checked_path("folder", folder)

    def on_start(self, trainer: Trainer) -> None:
        super().on_start(trainer)
        if (self.folder / FILE_NAME).exists() and not self.best_epoch:
            raise ValueError(f"folder must be one without a run, got {self.folder}")

    def on_epoch(self, trainer: Trainer, row: EpochRecord) -> None:
        if self._improved(row):
            trainer.save(self.folder)
