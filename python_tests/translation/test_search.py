"""Greedy and beam search against searches that try everything."""

from __future__ import annotations

import itertools
from typing import Any

import bounds
import numpy as np
import pytest
import tiny_text

import fp16engine as fe
from fp16engine import functional as F
from fp16engine.models.transformer import Transformer
from fp16engine.translation import Hypothesis, translate
from fp16engine.translation.search import length_penalty


def model(vocabulary: int = 6, seed: int = 1) -> Transformer:
    with fe.random.fork(seed):
        made = Transformer(vocabulary, 8, 2, 8, 1, 0.0)
    made.to("reference")
    return made


def log_probability(network: Transformer, source: list[int], said: list[int]) -> float:
    """Of `said`, from one forward over the whole."""

    def ids(row: list[int]) -> fe.Tensor:
        return fe.tensor(np.array([row], np.int64), device="reference")

    lengths = fe.tensor(np.array([len(source)]), device="reference")
    logits = network.eval()(ids(source), lengths, ids([1, *said[:-1]]))
    log_probs = F.log_softmax(logits).numpy()[0].astype(np.float64)
    return float(sum(log_probs[i, token] for i, token in enumerate(said)))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_wide_enough_finds_the_best_of_all(seed: int, alpha: float) -> None:
    network, source = model(seed=seed), [3, 2]
    every = [[*said, 2] for n in range(4) for said in itertools.product((3, 4, 5), repeat=n)]
    scores = [log_probability(network, source, s) / length_penalty(len(s), alpha) for s in every]
    (found,) = translate(network, [np.array(source)], "fp32", beam=60, alpha=alpha, extra=2)
    best = int(np.argmax(scores))
    assert found.tokens == tuple(every[best][:-1])
    assert abs(found.score - scores[best]) <= 8 * bounds.EPS["float32"] * abs(scores[best])


@pytest.mark.slow
def test_one_hypothesis_is_the_likeliest_token_each_time() -> None:
    for seed in range(4):
        network = model(9, seed)
        (found,) = translate(network, [np.array([4, 7, 2])], "fp32", beam=1, extra=4)
        said: list[int] = []
        while len(said) < 7 and 2 not in said:
            said.append(max((2, *range(3, 9)), key=lambda t: log_probability(network, [4, 7, 2], [*said, t])))
        assert list(found.tokens) == [t for t in said if t != 2]


@pytest.fixture(scope="module")
def learnt() -> Any:
    """A network that knows some of its corpus."""
    trainer, pairs = tiny_text.trainer("fp32"), tiny_text.pairs(30)
    batch = pairs.batch(range(30))
    for _ in range(40):
        trainer.train_batch(batch, batch.labels)
    return trainer.model, pairs.source


@pytest.mark.slow
def test_a_wider_beam_scores_higher(learnt: Any) -> None:
    network, sources = learnt
    scores = [sum(h.score for h in translate(network, sources, "fp32", beam=beam)) for beam in (1, 4, 8)]
    assert scores[0] < scores[1] <= scores[2] < 0


@pytest.mark.slow
@pytest.mark.parametrize("beam", [1, 3])
def test_company_changes_nothing(learnt: Any, beam: int) -> None:
    """Sentences one by one, all together and in threes: the same hypotheses, scores to the bit, in order."""
    network, sources = learnt
    done: list[int] = []
    network.train()
    together = translate(network, sources, "fp32", beam=beam, between=done.append)
    assert network.training and done == [30]
    assert translate(network, sources, "fp32", beam=beam, batch_size=3) == together
    assert [translate(network, [s], "fp32", beam=beam)[0] for s in sources] == together
    assert len({h.tokens for h in together}) > 10


def test_an_unending_sentence_is_cut_off() -> None:
    network = model()
    network.target_embedding.weight.data[2] *= -50  # the end mark is out of the question
    (found,) = translate(network, [np.array([3, 2])], "fp32", beam=2, extra=3)
    assert len(found.tokens) == 5 and isinstance(found, Hypothesis)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beam": 0}, r"beam must .* got 0"),
        ({"batch_size": 1.5}, r"batch_size must .* got 1.5"),
        ({"alpha": -1}, r"alpha must .* got -1"),
        ({"sources": [np.zeros(0, np.int64)]}, r"sources must .* got an empty one"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        translate(**{"model": model(), "sources": [np.array([2])], "precision": "fp32", **options})
