"""How long the trainings of a translation experiment take on this machine, from two steps of each."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import ParallelText
from ..data.encoded import EncodedPairs, EncodedText
from ..precision import Precision
from ..reporting.progress import Reporter
from ..train.checkpoint import FILE_NAME as CHECKPOINT
from ..train.checkpoint import Checkpoint
from ..translation import TranslationTrainer
from ..translation.trainer import PairSplit, TextFeed
from .runs.store import DONE, PENDING
from .translation import RUN, Settings, encode, make_trainer

_LONG_STEP_SECONDS = 1.0
_FIRST_TOKENS = 256  # a step of the first measurement


@dataclass(frozen=True)
class TranslationRun:
    """A training of an experiment; `epoch_seconds` are those of one pass and its validation."""

    model: str
    data: str
    precision: str
    pairs: int
    epochs: int
    epochs_done: int
    epoch_seconds: float

    @property
    def seconds(self) -> float:
        """How long the training that is left takes; translating the test part comes on top."""
        return (self.epochs - self.epochs_done) * self.epoch_seconds

    def reduced(self, epochs: int, pairs: int) -> float:
        """How long all of it takes with so many epochs and pairs at most."""
        return min(epochs, self.epochs) * self.epoch_seconds * min(1.0, pairs / self.pairs)

    def row(self) -> dict[str, Any]:
        """Return the run as `StudySession.estimate` describes one."""
        return {
            "run": f"{self.model} on {self.data}, {self.precision}", "model": self.model, "data": self.data,
            "precision": self.precision, "status": PENDING if self.seconds else DONE,
            "seconds": self.seconds, "reason": None,
        }  # fmt: skip


def estimate(text: ParallelText, settings: Settings, out: Path, shown: Reporter) -> list[TranslationRun]:
    """Return the runs of `translation.run` with what their trainings take, measured here.

    Args:
        text: the corpus.
        settings: what is done.
        out: the folder of the results; a run that is there continues, or is done.
        shown: is told what is measured.
    """
    tokenizer, encoded = encode(text, settings, shown)
    runs = []
    for name in settings.precisions:
        policy = Precision.get(name)
        folder = out / policy.name
        done = settings.epochs if (folder / RUN).exists() else 0
        if not done and (folder / CHECKPOINT).exists():
            done = Checkpoint.load(folder).epoch
        seconds = 0.0
        if done < settings.epochs:
            shown.note(f"measuring the speed of {settings.model} in {policy.name}")
            seconds = _epoch_seconds(make_trainer(settings, policy, tokenizer), encoded, settings.tokens)
            gc.collect()
        pairs = len(encoded.train)
        runs.append(
            TranslationRun(settings.model, encoded.name, policy.name, pairs, settings.epochs, done, seconds)
        )
    return runs


def _epoch_seconds(trainer: TranslationTrainer, encoded: EncodedText, tokens: int) -> float:
    """Measure a step in small, and in full where that does not take long; then a part of a validation."""
    feed = TextFeed(encoded, min(tokens, _FIRST_TOKENS))
    _step_seconds(trainer, feed)  # compiles and allocates
    training = _step_seconds(trainer, feed) * feed.steps
    whole = TextFeed(encoded, tokens)
    if training / whole.steps < _LONG_STEP_SECONDS:
        training = _step_seconds(trainer, whole) * whole.steps
    count = max(1, len(encoded.test) // whole.steps)
    part = EncodedPairs(encoded.test.source[:count], encoded.test.target[:count])
    start = time.perf_counter()
    trainer.evaluator.score(PairSplit(part, tokens), tokens)
    validation = (time.perf_counter() - start) * encoded.test.tokens / part.tokens
    return training + validation


def _step_seconds(trainer: TranslationTrainer, feed: TextFeed) -> float:
    batch, _ = feed.batch(feed.order(0, 0), 0)
    start = time.perf_counter()
    trainer.step(batch)
    return time.perf_counter() - start
