"""What a run measured: one record per epoch and the summary of the whole."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..validate import must_be

LEAST_FINITE = 0.5  # share of samples in steps with a finite loss, below which an epoch has diverged
SUMMARY = "summary.json"  # what a run, a comparison or a study came to
WALL_TIME_FIELDS = ("seconds", "images_per_second")


def json_number(value: float | None) -> float | None:
    """The value itself, or None (JSON null) where it is nan or infinite: JSON has no such numbers."""
    return value if value is None or math.isfinite(value) else None


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a run.

    Args:
        epoch: its number, from 1.
        train_loss: mean over samples of the training steps' own losses (weights still moving, batch
            statistics in use); steps with a loss that is not finite are left out. nan where the epoch
            diverged: more than half of its samples were in such steps, or no output of the network is finite
            after it.
        train_accuracy: share in 0 to 1, of the same steps; samples of a step whose loss is not finite are
            wrong. nan where the epoch diverged.
        test_loss: mean over test samples.
        test_accuracy: share in 0 to 1.
        seconds: of training, without evaluation.
        images_per_second: of training.
        skipped: steps whose loss scale was too high.
        nonfinite: steps that no loss scale would have helped.
        loss_scale: after the epoch; None without loss scaling.
        lr: of the last step.

    >>> EpochRecord(1, 0.5, 0.9, 0.6, 0.8, 2.0, 700.0, 0, 0, None, 0.1).to_json()["test_accuracy"]
    0.8
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float
    images_per_second: float
    skipped: int
    nonfinite: int
    loss_scale: float | None
    lr: float

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values; nan and infinity become null.

        >>> record = EpochRecord(1, 0.5, 0.9, float("nan"), 0.8, 2.0, 700.0, 0, 0, None, 0.1)
        >>> record.to_json()["test_loss"] is None
        True
        """
        return {key: json_number(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> EpochRecord:
        """Return the record that `to_json` wrote.

        Args:
            row: its entries by name.

        Raises:
            ValueError: it has other entries, or one is no number.

        >>> record = EpochRecord(1, 0.5, 0.9, 0.6, 0.8, 2.0, 700.0, 0, 0, None, 0.1)
        >>> EpochRecord.from_json(record.to_json()) == record
        True
        """
        if not isinstance(row, dict) or set(row) != {f.name for f in fields(cls)}:
            raise ValueError("an epoch record must hold this version's entries, got others")
        for key, value in row.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(must_be(f"an epoch record: {key}", "a number or None", value))
        lost = {key: math.nan for key, value in row.items() if value is None and key != "loss_scale"}
        return cls(**{**row, **lost})


@dataclass
class EpochSums:
    """Running sums of the epoch in progress: float64 and integers, kept exactly in checkpoints."""

    loss: float = 0.0
    correct: int = 0
    counted: int = 0
    images: int = 0
    skipped: int = 0
    nonfinite: int = 0
    seconds: float = 0.0

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> EpochSums:
        """The sums `asdict` wrote; ValueError for anything else."""
        if not isinstance(row, dict) or set(row) != {f.name for f in fields(cls)}:
            raise ValueError("the epoch sums must hold this version's entries, got others")
        for key, value in row.items():
            kinds = int | float if key in ("loss", "seconds") else int
            if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
                raise ValueError(must_be(f"the epoch sums: {key}", "a finite number", value))
        return cls(**row)

    def record(
        self, epoch: int, test_loss: float, test_accuracy: float, loss_scale: float | None, lr: float
    ) -> EpochRecord:
        """Close the epoch; see EpochRecord for when its means are nan."""
        finite = self.counted and self.counted >= LEAST_FINITE * self.images
        diverged = not finite or math.isnan(test_accuracy)
        return EpochRecord(
            epoch=epoch,
            train_loss=math.nan if diverged else self.loss / self.counted,
            train_accuracy=math.nan if diverged else self.correct / self.images,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            seconds=self.seconds,
            images_per_second=self.images / self.seconds if self.seconds > 0 else 0.0,
            skipped=self.skipped,
            nonfinite=self.nonfinite,
            loss_scale=loss_scale,
            lr=lr,
        )


@dataclass
class History:
    """The epochs of a run, and what stays the same over them.

    Args:
        run: model, data, precision, seed and the like.
        epochs: a record each.
        images: that training steps took.
        peak_memory_bytes: the backend's own count.
        views_accuracy: on the test images after the last epoch, over their test-time views, or None.
        failure: why the run counts as failed although it came to its end, or None.

    >>> History(run={"model": "dnn"}).summary()["model"]
    'dnn'
    """

    run: dict[str, Any] = field(default_factory=dict)
    epochs: list[EpochRecord] = field(default_factory=list)
    images: int = 0
    peak_memory_bytes: int = 0
    views_accuracy: float | None = None
    failure: str | None = None  # why the run counts as failed although it came to its end, see outcome.py

    def summary(self) -> dict[str, Any]:
        """Return one entry of `runs` in `summary.json`, with the run's description and every epoch.

        Accuracies are the last epoch's, train_seconds the sum over epochs without evaluation.

        >>> History(run={"model": "dnn"}).summary()["epochs"]
        0
        """
        last = self.epochs[-1].to_json() if self.epochs else {}
        seconds = sum(record.seconds for record in self.epochs)
        views = {} if self.views_accuracy is None else {"views_accuracy": json_number(self.views_accuracy)}
        return {
            **self.run,
            "test_accuracy": last.get("test_accuracy"),
            **views,
            "train_accuracy": last.get("train_accuracy"),
            "test_loss": last.get("test_loss"),
            "train_loss": last.get("train_loss"),
            "train_seconds": seconds,
            "images_per_second": self.images / seconds if seconds > 0 else 0.0,
            "peak_memory_bytes": self.peak_memory_bytes,
            "nonfinite_steps": sum(record.nonfinite for record in self.epochs),
            "skipped_steps": sum(record.skipped for record in self.epochs),
            "epochs": len(self.epochs),
            "status": "finished" if self.failure is None else "failed",
            "error": self.failure,
            "history": [record.to_json() for record in self.epochs],
        }
