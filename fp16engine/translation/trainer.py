"""Training a Transformer on sentence pairs: `Trainer` with batches and a loss of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from .. import backend as backends
from .. import functional as F
from ..data.encoded import EncodedPairs, EncodedText, PairBatch, cut
from ..models.transformer import Transformer
from ..precision import Precision
from ..tensor import Tensor
from ..train import StepResult, Trainer
from ..train.batches import data_order
from ..train.objective import Objective
from ..train.state import TrainState
from ..validate import instance, must_be
from .search import Hypothesis, translate


@dataclass(frozen=True)
class PairSplit:
    """Pairs to evaluate on, in batches of like length."""

    pairs: EncodedPairs
    most_tokens: int

    def __len__(self) -> int:
        return self.pairs.tokens

    def in_order(self, batch_size: int) -> Iterator[tuple[PairBatch, np.ndarray]]:
        """Every pair once; how many at a time follows from `most_tokens`, not from `batch_size`."""
        sizes = self.pairs.sizes()
        for index in cut(sizes, np.argsort(sizes, kind="stable"), self.most_tokens):
            batch = self.pairs.batch(index)
            yield batch, batch.labels


@dataclass(frozen=True)
class TextOrder:
    """An epoch: the pairs of each batch, and which batch comes when."""

    batches: list[np.ndarray]
    turns: np.ndarray


class TextFeed:
    """Batches of pairs of like length with at most `most_tokens` padded tokens a side; see `ImageFeed`.

    An epoch shuffles the pairs, sorts them by size (ties stay shuffled), cuts, and shuffles the batches; both
    orders follow from (seed, epoch). The cuts are the same in every epoch, so all have as many steps.
    """

    unit = "tokens/s"

    def __init__(self, text: EncodedText, most_tokens: int) -> None:
        self.train = PairSplit(text.train, most_tokens)
        self.test = PairSplit(text.test, most_tokens)
        self._sizes = text.train.sizes()
        self._most_tokens = most_tokens
        self.steps = len(self._cut(np.arange(len(self._sizes))))

    def order(self, seed: int, epoch: int) -> TextOrder:
        """The batches of an epoch."""
        batches = self._cut(data_order(seed, epoch, len(self._sizes)))
        return TextOrder(batches, data_order(seed, epoch, len(batches)))

    def batch(self, order: TextOrder, step: int) -> tuple[PairBatch, np.ndarray]:
        """The pairs and labels of a step."""
        batch = self.train.pairs.batch(order.batches[order.turns[step]])
        return batch, batch.labels

    def _cut(self, shuffled: np.ndarray) -> list[np.ndarray]:
        order = shuffled[np.argsort(self._sizes[shuffled], kind="stable")]
        return cut(self._sizes, order, self._most_tokens)

    def __str__(self) -> str:
        return f"{len(self._sizes):,} pairs in {self.steps} batches of at most {self._most_tokens:,} tokens"


class TokenPrediction(Objective):
    """The tokens of a translation, each from the ones before it and the source."""

    def corpus(self, dataset: Any) -> Any:
        """Text, which has one form."""
        return dataset

    def feed(self, state: TrainState, dataset: EncodedText, batch_size: int) -> TextFeed:
        """See `TextFeed`; TypeError for other data, ValueError when a token is none of the model's."""
        model: Any = state.model
        instance("dataset", dataset, EncodedText, "an EncodedText")
        vocabulary = model.source_embedding.weight.shape[0]
        most = max(int(array.max()) for part in (dataset.train, dataset.test) for array in part.arrays()[::2])
        if most >= vocabulary:
            raise ValueError(
                f"dataset {dataset.name!r} must hold tokens from 0 to {vocabulary - 1}, got {most}"
            )
        return TextFeed(dataset, batch_size)

    def float_arrays(self, inputs: PairBatch) -> list[Any]:
        """None: they are token numbers."""
        return []

    def logits(self, state: TrainState, inputs: PairBatch) -> Tensor:
        """Logits (B * T, vocabulary) of what follows each token that the decoder reads."""
        backend = backends.get(state.device)
        source, lengths, target = (
            Tensor(backend.from_numpy(ids), state.device)
            for ids in (inputs.source, inputs.source_lengths, inputs.target)
        )
        logits: Tensor = state.model(source, lengths, target)
        return F.reshape(logits, (-1, logits.shape[2]))


class TranslationTrainer(Trainer):
    """Trains a `Transformer` with cross-entropy over the tokens of the translations; the rest is `Trainer`'s.

    Args:
        model: a `Transformer`.
        precision: the name of a preset, or a `Precision`.
        *args: as in `Trainer`.
        **options: as in `Trainer`.

    `fit(EncodedText, epochs, batch_size)` takes the batch size in padded tokens of a side. Accuracies are
    shares of tokens predicted from the true ones before them, "images" are tokens of the translations.

    Raises:
        ValueError: as `Trainer`.
        TypeError: as `Trainer`.

    >>> import numpy as np
    >>> import fp16engine as fe
    >>> from fp16engine.data.encoded import EncodedPairs
    >>> model = fe.models.transformer.create("transformer-tiny", 300)
    >>> trainer = fe.translation.TranslationTrainer(model, "fp16", "adam", 1e-3)
    >>> batch = EncodedPairs((np.array([7, 8, 2]),), (np.array([9, 2]),)).batch([0])
    >>> trainer.step(batch).applied
    True
    """

    def __init__(self, model: Transformer, precision: str | Precision = "fp16", *args: Any, **options: Any):
        instance("model", model, Transformer, "a Transformer")
        super().__init__(model, precision, *args, **options)
        self.network = model

    def make_objective(self, state: TrainState) -> Objective:
        return TokenPrediction(state.config.label_smoothing)

    def step(self, x: PairBatch, y: Any = None) -> StepResult:
        """Take one training step on a batch of pairs, which has its labels.

        Args:
            x: a `PairBatch`, of `EncodedPairs.batch`.
            y: None.

        Raises:
            TypeError: x is no such batch, or y is given.
            NonFiniteError: as `Trainer.step`.

        >>> import numpy as np
        >>> import fp16engine as fe
        >>> from fp16engine.data.encoded import EncodedPairs
        >>> model = fe.models.transformer.create("transformer-tiny", 300)
        >>> trainer = fe.translation.TranslationTrainer(model, "fp16", "adam", 1e-3)
        >>> trainer.step(EncodedPairs((np.array([7, 8, 2]),), (np.array([9, 2]),)).batch([0])).loss > 0
        True
        """
        if not isinstance(x, PairBatch) or y is not None:
            raise TypeError(must_be("x", "one PairBatch (of EncodedPairs.batch), without y", type(x)))
        return self.train_batch(x, x.labels)[0]

    def evaluate(self, dataset: EncodedText, batch_size: int = 4096) -> tuple[float, float]:  # type: ignore[override]
        """Return the share of tokens predicted and the mean cross-entropy on dataset.test.

        Args:
            dataset: pairs as tokens, an `EncodedText`.
            batch_size: padded tokens of a side at a time.

        Raises:
            ValueError: a token is none of the model's.

        >>> import numpy as np
        >>> import fp16engine as fe
        >>> from fp16engine.data.encoded import EncodedPairs, EncodedText
        >>> pairs = EncodedPairs((np.array([7, 8, 2]),), (np.array([9, 2]),))
        >>> model = fe.models.transformer.create("transformer-tiny", 300)
        >>> trainer = fe.translation.TranslationTrainer(model, "fp16", "adam", 1e-3)
        >>> share, loss = trainer.evaluate(EncodedText("one", pairs, pairs))
        >>> 0 <= share <= 1 and loss > 0
        True
        """
        return self.evaluator.score(self.feed(dataset, batch_size).test, batch_size)

    def translate(self, sources: Sequence[np.ndarray], beam: int = 4, **options: Any) -> list[Hypothesis]:
        """Return the best hypothesis for each source, in the precision in force, see `translation.translate`.

        Args:
            sources: int64 arrays, any shape (length,), token numbers with the end mark.
            beam: hypotheses a sentence that are followed.
            **options: other arguments of `translation.translate`.

        Raises:
            ValueError: a number is out of range, or a source is empty.

        >>> import numpy as np
        >>> import fp16engine as fe
        >>> model = fe.models.transformer.create("transformer-tiny", 300)
        >>> trainer = fe.translation.TranslationTrainer(model, "fp16", "adam", 1e-3)
        >>> len(trainer.translate([np.array([7, 8, 2])], beam=1, extra=2))
        1
        """
        with self.evaluator.inference():
            return translate(self.network, sources, None, beam, **options)

    def predict(self, images: Any, batch_size: int = 256) -> NoReturn:
        """Raise an error: there are no class probabilities here; `translate` gives translations.

        Args:
            images: any shape and dtype.
            batch_size: any.

        Raises:
            TypeError: always.

        >>> import fp16engine as fe
        >>> model = fe.models.transformer.create("transformer-tiny", 300)
        >>> fe.translation.TranslationTrainer(model).predict([])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        TypeError: predict...
        """
        raise TypeError("predict must be called on a classifier, got a TranslationTrainer; use translate")
