"""Class probabilities of the test set after every epoch, kept on disk so that they survive a resume."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...reporting.files import make_folder, write_atomically

if TYPE_CHECKING:
    from ...data import Dataset
    from ...reporting.history import EpochRecord
    from ...reporting.progress import Reporter
    from ...train import Trainer


class Predictions:
    """Probabilities (N, classes) per epoch in `folder`/epoch-0001.npy and so on; epochs count from 1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:04d}.npy"

    def save(self, epoch: int, probabilities: NDArray[np.floating[Any]]) -> None:
        """Write one epoch's probabilities; an earlier file of that epoch is replaced."""
        make_folder(self._folder)
        content = io.BytesIO()
        np.save(content, np.asarray(probabilities, np.float32))
        write_atomically(self._path(epoch), content.getvalue())

    def load(self, epoch: int) -> NDArray[np.float32] | None:
        """Return one epoch's probabilities, or None if that epoch has none (or a damaged file)."""
        try:
            array = np.load(self._path(epoch), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return array if isinstance(array, np.ndarray) else None


def probabilities(trainer: Trainer, dataset: Dataset, batch_size: int) -> NDArray[np.float32]:
    """Predict the test set batch by batch, so that the run's peak memory stays that of training."""
    images = dataset.normalised("test", trainer.precision.storage)
    starts = range(0, len(images), batch_size)
    return np.concatenate([trainer.predict(images[i : i + batch_size], batch_size) for i in starts])


class PredictingReporter:
    """A `Reporter` that stores the test set's probabilities after every epoch and passes everything on."""

    def __init__(self, inner: Reporter, predict: Any, store: Predictions) -> None:
        self._inner = inner
        self._predict = predict
        self._store = store

    def begin(self, title: str, epochs: int, total_steps: int, done_steps: int) -> None:
        """See Reporter."""
        self._inner.begin(title, epochs, total_steps, done_steps)

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        """See Reporter."""
        self._inner.step(epoch, step, loss, images_per_second)

    def epoch(self, record: EpochRecord) -> None:
        """Store the probabilities of this epoch, then see Reporter."""
        self._store.save(record.epoch, self._predict())
        self._inner.epoch(record)

    def sample(self, sample: Any) -> None:
        """What a monitor saw goes to a reporter that shows it."""
        show = getattr(self._inner, "sample", None)
        if show is not None:
            show(sample)

    def note(self, text: str) -> None:
        """See Reporter."""
        self._inner.note(text)

    def end(self) -> None:
        """See Reporter."""
        self._inner.end()
