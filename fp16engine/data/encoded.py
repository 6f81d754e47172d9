"""Parallel text as token numbers, and how it is cut into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from .text import Pairs, ParallelText
from .tokenizer import Tokenizer
from .tokenizer_file import BEGIN, PAD

IGNORED = -1  # the label of a position that is padding


@dataclass(frozen=True)
class PairBatch:
    """Sentence pairs of a step, padded to the longest.

    Args:
        source: (B, S), int64, with the end mark, then 0.
        source_lengths: (B,), int64, end mark included.
        target: (B, T), int64, begins with 1: what the decoder reads.
        labels: (B * T,), int64: what the decoder is to say, the end mark last, then -1.

    >>> batch = EncodedPairs((np.array([7, 8, 2]),), (np.array([9, 2]),)).batch([0])
    >>> batch.target.tolist(), batch.labels.tolist()
    ([[1, 9]], [9, 2])
    """

    source: np.ndarray
    source_lengths: np.ndarray
    target: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class EncodedPairs:
    """Token numbers of sentences and translations, each ending in its end mark.

    Args:
        source: arrays of any shape (length,), int64, one per sentence.
        target: their translations, int64 arrays of any shape (length,), as many.

    >>> len(EncodedPairs((np.array([7, 8, 2]),), (np.array([9, 2]),)))
    1
    """

    source: tuple[np.ndarray, ...]
    target: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, pairs: Pairs, longest: int | None = None) -> EncodedPairs:
        """Encode pairs, without those of which a side is too long.

        Args:
            tokenizer: makes the tokens.
            pairs: the text.
            longest: tokens of a side at most; None means no limit.

        Raises:
            DataError: none is left.

        >>> tokenizer = Tokenizer.train(["guten Tag", "good day"], vocabulary=262)
        >>> len(EncodedPairs.of(tokenizer, Pairs(("guten Tag",), ("good day",))))
        1
        """
        both = list(zip(tokenizer.encode(pairs.source), tokenizer.encode(pairs.target), strict=True))
        if longest is not None:
            both = [(s, t) for s, t in both if max(len(s), len(t)) <= longest]
        if not both:
            raise DataError(f"pairs must hold one of at most {longest} tokens a sentence, got none")
        return cls(tuple(s for s, _ in both), tuple(t for _, t in both))

    def __len__(self) -> int:
        return len(self.source)

    @property
    def tokens(self) -> int:
        """Tokens of all translations, end marks included."""
        return sum(len(t) for t in self.target)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return what the pairs consist of: tokens and lengths of both sides.

        Returns:
            Four arrays, int64: tokens (sum of lengths,) and lengths (N,) of the source, and of the target.

        >>> [a.tolist() for a in EncodedPairs((np.array([7, 8, 2]),), (np.array([9, 2]),)).arrays()]
        [[7, 8, 2], [3], [9, 2], [2]]
        """
        return tuple(
            array
            for side in (self.source, self.target)
            for array in (np.concatenate(side), np.array([len(line) for line in side], np.int64))
        )

    def sizes(self) -> np.ndarray:
        """Return the tokens of the longer side of each pair.

        Returns:
            Shape (N,), int64.

        >>> EncodedPairs((np.array([7, 8, 2]),), (np.array([9, 2]),)).sizes().tolist()
        [3]
        """
        return np.array([max(len(s), len(t)) for s, t in zip(self.source, self.target, strict=True)])

    def batch(self, index: Sequence[int] | np.ndarray) -> PairBatch:
        """Return pairs as one batch, padded.

        Args:
            index: shape (B,), int64: which pairs, in this order.

        Raises:
            IndexError: there is no such pair.

        >>> EncodedPairs((np.array([7, 8, 2]),), (np.array([9, 2]),)).batch([0]).source.tolist()
        [[7, 8, 2]]
        """
        sources, targets = ([side[i] for i in index] for side in (self.source, self.target))
        labels = padded(targets, IGNORED)
        target = np.full(labels.shape, PAD, np.int64)
        target[:, 0] = BEGIN
        target[:, 1:] = np.where(labels[:, 1:] == IGNORED, PAD, labels[:, :-1])
        lengths = np.array([len(line) for line in sources], np.int64)
        return PairBatch(padded(sources, PAD), lengths, target, labels.reshape(-1))


@dataclass(frozen=True)
class EncodedText:
    """A corpus for training.

    Args:
        name: what reports call it.
        train: pairs to train on.
        test: what an epoch is evaluated on, the validation part of the text.

    >>> pairs = EncodedPairs((np.array([7, 8, 2]),), (np.array([9, 2]),))
    >>> EncodedText("one", pairs, pairs).train.tokens
    2
    """

    name: str
    train: EncodedPairs
    test: EncodedPairs

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: ParallelText, longest: int = 100) -> EncodedText:
        """Encode the training part, without sentences that are too long, and all of the validation part.

        Args:
            tokenizer: makes the tokens.
            text: the corpus.
            longest: tokens of a side at most, in training.

        Raises:
            DataError: no pair is left.

        >>> pairs = Pairs(("guten Tag",), ("good day",))
        >>> tokenizer = Tokenizer.train(["guten Tag", "good day"], vocabulary=262)
        >>> EncodedText.of(tokenizer, ParallelText("two", "de", "en", pairs, pairs, pairs)).name
        'two de-en'
        """
        name = f"{text.name} {text.source}-{text.target}"
        train = EncodedPairs.of(tokenizer, text.train, longest)
        return cls(name, train, EncodedPairs.of(tokenizer, text.val))


def padded(lines: Sequence[np.ndarray], filler: int) -> np.ndarray:
    """Return the lines as rows of one int64 array (B, longest), `filler` behind the shorter ones."""
    rows = np.full((len(lines), max(len(line) for line in lines)), filler, np.int64)
    for row, line in zip(rows, lines, strict=True):
        row[: len(line)] = line
    return rows


def cut(sizes: np.ndarray, order: np.ndarray, most: int) -> list[np.ndarray]:
    """Cut `order` (indices of `sizes`, shortest first) into batches of at most `most` padded tokens a side.

    Every batch has at least one sentence. The indices of the cuts depend on the sorted sizes alone.
    """
    batches, first = [], 0
    for last in range(1, len(order) + 1):
        if last == len(order) or (last + 1 - first) * sizes[order[last]] > most:
            batches.append(order[first:last])
            first = last
    return batches
