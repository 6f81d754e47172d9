"""How long a run will take: from rates that the store has seen on this machine, or from two quick steps."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ... import models
from ...doctor import machine
from ...train import Trainer
from .spec import RunSpec, canonical
from .store import Store

if TYPE_CHECKING:
    from ...data import Dataset

CALIBRATION_IMAGES = 8  # fewer make the statistics of a norm over a 1x1 image explode
_LONG_STEP_SECONDS = 1.0
_CALIBRATION_STEPS = 3
_START_SECONDS = 1.0  # of a run: weights, the first checkpoint


def make_trainer(spec: RunSpec, dataset: Dataset, device: str) -> Trainer:
    """Return the trainer that a spec describes, on its untrained network."""
    model = models.create(spec.model, len(dataset.classes), dataset.image_size, dataset.channels, spec.seed)
    given = {name: value for name, value in spec.training.items() if value is not None}
    return Trainer(model, spec.precision, device=device, seed=spec.seed, **given)


@dataclass(frozen=True)
class Rate:
    """Seconds per image of training and of evaluation."""

    train: float
    evaluate: float

    def seconds(self, spec: RunSpec, epochs_done: int = 0) -> float:
        """Return how long what is left of a run takes."""
        each = spec.train_images * self.train + spec.test_images * self.evaluate
        return _START_SECONDS + (spec.epochs - epochs_done) * each


class Estimator:
    """Estimates runs on `device`; what is calibrated is kept in the store."""

    def __init__(self, store: Store, device: str) -> None:
        self._store = store
        self._device = device
        about = machine(device)
        self._machine = [about["cpu"], about["threads"], device]

    def known(self, spec: RunSpec, dataset: Dataset) -> Rate | None:
        """Return the rate of runs like this one, None if none was seen."""
        found = self._store.rate(self._name(spec, dataset))
        return None if found is None else Rate(**found)

    def rate(self, spec: RunSpec, dataset: Dataset) -> Rate:
        """Return the rate of runs like this one, measured if none was seen."""
        found = self.known(spec, dataset)
        if found is None:
            found = self._calibrate(spec, dataset)
            self.learn(spec, dataset, found)
        return found

    def learn(self, spec: RunSpec, dataset: Dataset, rate: Rate) -> None:
        """Keep a rate that was seen."""
        self._store.set_rate(self._name(spec, dataset), {"train": rate.train, "evaluate": rate.evaluate})

    def _name(self, spec: RunSpec, dataset: Dataset) -> str:
        shape = [*dataset.train.images.shape[1:], len(dataset.classes)]
        kind = [spec.training.get(name) for name in ("optimizer", "state", "update")]
        return canonical(
            [*self._machine, spec.results_version, spec.model, spec.precision, *kind, spec.batch_size, shape]
        )

    def _calibrate(self, spec: RunSpec, dataset: Dataset) -> Rate:
        trainer = make_trainer(spec, dataset, self._device)
        trainer.set_total_steps(_CALIBRATION_STEPS)
        whole = min(len(dataset.train), spec.batch_size)
        count = min(CALIBRATION_IMAGES, whole)
        with np.errstate(all="ignore"):  # the reference device warns about overflows; they cost no time
            _step_seconds(trainer, dataset, count)  # compiles and allocates
            seconds = _step_seconds(trainer, dataset, count)
            if whole > count and seconds * whole / count < _LONG_STEP_SECONDS:
                count = whole  # an optimizer step costs the same for any batch, so the real one tells more
                seconds = _step_seconds(trainer, dataset, count)
            part = dataset.limit(count)
            start = time.perf_counter()
            trainer.evaluate(part, count)
            evaluation = time.perf_counter() - start
        del trainer
        gc.collect()
        return Rate(seconds / count, evaluation / len(part.test))


def _step_seconds(trainer: Trainer, dataset: Dataset, count: int) -> float:
    part = dataset.limit(count)
    images = part.normalised("train", trainer.precision.storage)
    start = time.perf_counter()
    trainer.step(images, part.train.labels)
    return time.perf_counter() - start
