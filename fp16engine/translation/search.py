"""What a Transformer says: greedy and beam search over batches, past keys and values kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from .. import backend as backends
from .. import functional as F
from ..autograd import no_grad
from ..data.encoded import padded
from ..data.tokenizer_file import BEGIN, END, PAD
from ..models.transformer import Transformer
from ..precision import Precision
from ..tensor import Tensor
from ..validate import integer, number


@dataclass(frozen=True)
class Hypothesis:
    """A translation as tokens, and how likely the model thinks it is.

    Args:
        tokens: without the end mark.
        score: log-probability, end mark included, over the length penalty.

    >>> Hypothesis((7, 8), -0.5).tokens
    (7, 8)
    """

    tokens: tuple[int, ...]
    score: float


def length_penalty(length: int, alpha: float) -> float:
    """((5 + length) / 6) ** alpha (Wu et al., 1609.08144): what a log-probability is divided by."""
    return float(((5 + length) / 6) ** alpha)


def translate(
    model: Transformer,
    sources: Sequence[np.ndarray],
    precision: str | Precision | None = None,
    beam: int = 4,
    alpha: float = 0.6,
    batch_size: int = 64,
    extra: int = 50,
    between: Callable[[int], None] | None = None,
) -> list[Hypothesis]:
    """Return the best hypothesis for each source, in their order.

        score = log P(tokens | source) / ((5 + length) / 6) ** alpha

    Args:
        model: a `Transformer`, moved to its device and rounded.
        sources: int64 arrays, any shape (length,), token numbers with the end mark.
        precision: the policy to compute under; None means the active one.
        beam: hypotheses a sentence that are followed, 1 being greedy search. One that is among the best with
            an end mark has ended; a sentence is done when `beam` have ended.
        alpha: exponent of the length penalty, >= 0.
        batch_size: sentences of like length that are decoded together, at most.
        extra: at source length + `extra` tokens a sentence is done, and one of which none has ended is cut
            off.
        between: hears how many sentences are done.

    Log-probabilities are rounded to the storage dtype by the model and added in float64 on the host.

    Raises:
        ValueError: a number is out of range, or a source is empty.

    Source:
        Wu et al., 2016, arXiv 1609.08144 (length penalty).

    >>> import numpy as np
    >>> import fp16engine as fe
    >>> model = fe.models.transformer.create("transformer-tiny", 20).to("reference").eval()
    >>> len(fe.translation.translate(model, [np.array([5, 6, 2])], beam=1, extra=2))
    1
    """
    for name, value, least in (("beam", beam, 1), ("batch_size", batch_size, 1), ("extra", extra, 0)):
        integer(name, value, least)
    number("alpha", alpha, minimum=0)
    if any(len(source) == 0 for source in sources):
        raise ValueError("sources must hold at least the end mark each, got an empty one")
    order = np.argsort([len(source) for source in sources], kind="stable")
    found: dict[int, Hypothesis] = {}
    training = model.training
    model.eval()
    try:
        with no_grad(), nullcontext() if precision is None else Precision.get(precision).use():
            for first in range(0, len(order), batch_size):
                chosen = order[first : first + batch_size]
                best = _Search(model, [sources[i] for i in chosen], beam, alpha, extra).run()
                found.update(zip(chosen.tolist(), best, strict=True))
                if between is not None:
                    between(len(found))
    finally:
        model.train(training)
    return [found[i] for i in range(len(sources))]


class _Search:
    """One batch: the hypotheses that continue lie side by side, `beam` rows a sentence."""

    def __init__(
        self, model: Transformer, sources: list[np.ndarray], beam: int, alpha: float, extra: int
    ) -> None:
        self.model, self.beam, self.alpha = model, beam, alpha
        self.device = next(model.parameters()).device
        lengths = np.array([len(source) for source in sources], np.int64)
        self.most = lengths + extra
        source, source_lengths = self._ids(padded(sources, PAD)), self._ids(lengths)
        self.state = model.start(model.encode(source, source_lengths), source_lengths)
        self.state.select(np.repeat(np.arange(len(sources)), beam))
        self.open = np.arange(len(sources))  # sentences that are not done, in the order of their rows
        self.tokens = np.zeros((len(sources), beam, 0), np.int64)
        # one beginning a sentence: the other rows, which say the same, are out of the question
        self.scores = np.full((len(sources), beam), -np.inf)
        self.scores[:, 0] = 0
        self.ended: list[list[Hypothesis]] = [[] for _ in sources]

    def run(self) -> list[Hypothesis]:
        """Return the best hypothesis of each sentence."""
        last = np.full(len(self.open) * self.beam, BEGIN, np.int64)
        while len(self.open):
            logits = self.model.step(self._ids(last), self.state)
            log_probs = F.log_softmax(logits).numpy().astype(np.float64)
            last = self._advance(log_probs.reshape(len(self.open), self.beam, -1))
        return [max(hypotheses, key=lambda h: h.score) for hypotheses in self.ended]

    def _advance(self, log_probs: np.ndarray) -> np.ndarray:
        """Take the best ways on from log-probabilities (open, beam, V); the next tokens of the rows left."""
        count, beam, vocabulary = log_probs.shape
        log_probs[:, :, [PAD, BEGIN]] = -np.inf  # never said
        length = self.tokens.shape[2] + 1
        totals = np.nan_to_num(self.scores[:, :, None] + log_probs, nan=-np.inf, neginf=-np.inf)
        totals = totals.reshape(count, beam * vocabulary)
        # at most `beam` of the best 2 * beam are ends, so `beam` that continue are among them
        best = _largest(totals, min(2 * beam, beam * vocabulary))
        kept_rows, kept_tokens, kept_scores, stay = [], [], [], []
        for i, sentence in enumerate(self.open.tolist()):
            going: list[tuple[int, int, float]] = []
            for rank, index in enumerate(best[i]):
                row, token, total = index // vocabulary, index % vocabulary, totals[i, index]
                if token == END and rank >= beam:
                    continue  # not among the best
                if token == END:
                    self._end(sentence, self.tokens[i, row], total, length)
                elif len(going) < beam:
                    going.append((row, token, total))
            if length >= self.most[sentence] or not going or len(self.ended[sentence]) >= beam:
                if not self.ended[sentence]:  # none ended: the best is cut off
                    row, token, total = going[0] if going else (0, END, -np.inf)
                    self._end(sentence, [*self.tokens[i, row], token], total, length)
                continue
            going += [(going[0][0], PAD, -np.inf)] * (beam - len(going))
            stay.append(i)
            kept_rows.append([i * beam + row for row, _, _ in going])
            kept_tokens.append([token for _, token, _ in going])
            kept_scores.append([total for _, _, total in going])
        if not stay:
            self.open = self.open[:0]
            return np.zeros(0, np.int64)
        rows, tokens = np.array(kept_rows, np.int64), np.array(kept_tokens, np.int64)
        past = self.tokens.reshape(count * beam, -1)[rows]
        self.tokens = np.concatenate([past, tokens[:, :, None]], axis=2)
        self.scores = np.array(kept_scores)
        self.open = self.open[stay]
        self.state.select(rows.reshape(-1))
        return tokens.reshape(-1)

    def _end(self, sentence: int, tokens: Sequence[int] | np.ndarray, total: float, length: int) -> None:
        if np.isfinite(total) or not self.ended[sentence]:
            score = float(total) / length_penalty(length, self.alpha)
            self.ended[sentence].append(Hypothesis(tuple(int(token) for token in tokens), score))

    def _ids(self, host: np.ndarray) -> Tensor:
        return Tensor(backends.get(self.device).from_numpy(np.ascontiguousarray(host)), self.device)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the `count` largest values of each row, the largest first, ties by index."""
    if count < values.shape[1]:
        part = np.sort(np.argpartition(values, -count, axis=1)[:, -count:], axis=1)
    else:
        part = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    order = np.argsort(-np.take_along_axis(values, part, 1), axis=1, kind="stable")
    return np.take_along_axis(part, order, 1)
