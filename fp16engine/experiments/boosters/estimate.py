"""How long the trainings and the losses behind Figures 1 and 2 of Accuracy Boosters take on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...train.checkpoint import FILE_NAME as CHECKPOINT
from ...train.checkpoint import Checkpoint
from ..runs.estimate import Estimator, Rate
from ..runs.spec import RunSpec
from ..runs.store import DONE, PENDING, Store

if TYPE_CHECKING:
    from ...data import Dataset
    from ...reporting.progress import Reporter


@dataclass(frozen=True)
class FigureRun:
    """A training and what is computed from it: `points` evaluations of the test images."""

    spec: RunSpec
    rate: Rate
    epochs_done: int
    points: int

    @property
    def seconds(self) -> float:
        """How long what is left of it takes."""
        losses = self.points * self.spec.test_images * self.rate.evaluate
        left = self.epochs_done < self.spec.epochs
        return losses + (self.rate.seconds(self.spec, self.epochs_done) if left else 0.0)

    def reduced(self, epochs: int, images: int) -> float:
        """How long all of it takes with so many epochs and images at most."""
        small = replace(
            self.spec,
            epochs=min(epochs, self.spec.epochs),
            train_images=min(images, self.spec.train_images),
            test_images=min(images, self.spec.test_images),
        )
        return replace(self, spec=small, epochs_done=0).seconds

    def row(self) -> dict[str, Any]:
        """Return the run as `StudySession.estimate` describes one."""
        spec = self.spec
        return {
            "key": spec.key, "run": spec.label, "model": spec.model, "data": spec.data,
            "precision": spec.precision, "status": DONE if self.epochs_done >= spec.epochs else PENDING,
            "seconds": self.seconds, "reason": None,
        }  # fmt: skip


def estimate(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    folders: Sequence[Path],
    device: str,
    points: int,
    shown: Reporter,
) -> list[FigureRun]:
    """Return the runs with their rates, measured here.

    Args:
        specs: the trainings.
        dataset: what they train on.
        folders: of each of them; one that is there continues.
        device: as in `Trainer`.
        points: evaluations of each trained network.
        shown: is told what is measured.
    """
    runs = []
    with Store(":memory:") as store:
        estimator = Estimator(store, device)
        for spec, folder in zip(specs, folders, strict=True):
            shown.note(f"measuring the speed of {spec.model} in {spec.precision}")
            done = Checkpoint.load(folder).epoch if (folder / CHECKPOINT).exists() else 0
            runs.append(FigureRun(spec, estimator.rate(spec, dataset), done, points))
    return runs
