"""Training on pairs: batches, learning by heart, checkpoints that continue to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bounds
import numpy as np
import pytest
import tiny_text

import fp16engine as fe
from fp16engine.observer import BackendCall, arrays_in, observe
from fp16engine.translation import translate
from fp16engine.translation.trainer import TextFeed


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "mp", "hbfp6"])
def test_learns_a_tiny_corpus_by_heart(precision: str) -> None:
    """Greedy search then gives every translation, exactly."""
    trainer, pairs = tiny_text.trainer(precision), tiny_text.pairs()
    batch = pairs.batch(range(len(pairs)))
    first = trainer.train_batch(batch, batch.labels)[0].loss
    for _ in range(120):
        last, correct = trainer.train_batch(batch, batch.labels)
    assert last.loss < first / 10 and correct == pairs.tokens
    found = translate(trainer.model, pairs.source, precision, beam=1)
    assert trainer.translate(pairs.source, 1) == found
    assert [[*h.tokens, 2] for h in found] == [t.tolist() for t in pairs.target]
    assert trainer.nonfinite_steps == 0


@pytest.mark.parametrize("precision", ["fp16", "fp16-strict"])
def test_no_32_bit_tensor_passes_through_the_backend(precision: str) -> None:
    """In a step of FP16 training, forward, backward and update; tokens and lengths are int64."""
    trainer, pairs = tiny_text.trainer(precision, "reference", dropout=0.1), tiny_text.pairs()
    seen: dict[str, set[str]] = {}

    def around(call: BackendCall) -> Any:
        result = call.run()
        for array in arrays_in([*call.args, *call.kwargs.values(), result]):
            seen.setdefault(str(array.dtype), set()).add(call.op)
        return result

    batch = pairs.batch(range(3))
    with observe(around):
        assert trainer.train_batch(batch, batch.labels)[0].applied
    assert set(seen) == {"float16", "int64"}
    assert {"attention_forward", "attention_backward", "cross_entropy_backward", "adam"} <= seen["float16"]


def test_an_epoch_has_every_pair_once_in_an_order_of_its_own() -> None:
    text = tiny_text.text(40)
    feed = TextFeed(text, 24)
    seen = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        order = feed.order(seed, epoch)
        batches = [order.batches[turn].tolist() for turn in order.turns]
        assert len(batches) == feed.steps > 4
        assert sorted(i for batch in batches for i in batch) == list(range(40))
        for step in range(feed.steps):
            batch, labels = feed.batch(order, step)
            assert max(batch.source.size, batch.target.size) <= 24
            assert (labels >= 0).sum() == sum(len(text.train.target[i]) for i in batches[step])
        assert batches == [o.tolist() for o in _in_turn(feed.order(seed, epoch))]
        seen.append(batches)
    assert seen[0] != seen[1] != seen[2] != seen[0]


def _in_turn(order: Any) -> list[np.ndarray]:
    return [order.batches[turn] for turn in order.turns]


def test_a_booster_trains_its_last_epoch_in_the_wider_format() -> None:
    """Its first and last layers always, everything in the last epoch, and the search after it."""
    trainer, text = tiny_text.trainer("booster", dropout=0.1), tiny_text.text()
    trainer.begin_epoch(0, 2)
    layers = {path: m.operand for path, m in trainer.model.named_modules() if m.operand is not None}
    assert list(layers) == ["encoder.0.self_attention.attention.query", "output"]
    assert trainer.in_force.block_format.mantissa == 4
    early = trainer.translate(text.test.source)
    trainer.fit(text, 2, 24, progress=False)
    assert trainer.in_force.block_format.mantissa == 6
    assert trainer.translate(text.test.source) == translate(trainer.model, text.test.source, "hbfp6") != early


def _bits(trainer: Any) -> dict[str, bytes]:
    state = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
    return {key: np.asarray(value).tobytes() for key, value in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "mp"])
def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(precision: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dropout": 0.2, "schedule": "inverse-sqrt", "warmup": 5}
    whole = tiny_text.trainer(precision, **options)
    history = whole.fit(tiny_text.text(20), 3, 24, out=tmp_path / "whole", progress=False)
    half = tiny_text.trainer(precision, **options)
    half.fit(tiny_text.text(20), 1, 24, out=tmp_path / "half", progress=False, checkpoint_every=3)
    rest = tiny_text.trainer(precision, **options)
    again = rest.fit(tiny_text.text(20), 3, 24, out=tmp_path / "half", resume=True, progress=False)
    assert _bits(rest) == _bits(whole) != _bits(half)
    for mine, theirs in zip(history.epochs, again.epochs, strict=True):
        assert (mine.train_loss, mine.test_loss, mine.lr) == (theirs.train_loss, theirs.test_loss, theirs.lr)
    assert history.images == 3 * tiny_text.pairs(20).tokens
    other = tiny_text.trainer(precision, **options)
    with pytest.raises(fe.CheckpointError, match="samples of 'tiny' are not the ones"):
        changed = fe.data.encoded.EncodedText("tiny", tiny_text.pairs(20, seed=7), tiny_text.pairs(3, seed=1))
        other.fit(changed, 3, 24, out=tmp_path / "half", resume=True, progress=False)


def test_a_checkpoint_builds_its_network_again(tmp_path: Path) -> None:
    model = fe.models.transformer.create("transformer-tiny", tiny_text.VOCABULARY)
    trainer = fe.translation.TranslationTrainer(model, "fp16", "adam", 1e-3)
    trainer.fit(tiny_text.text(), 1, 50, out=tmp_path, progress=False)
    again = fe.Checkpoint.load(tmp_path).create_model()
    for mine, other in zip(trainer.model.parameters(), again.parameters(), strict=True):
        bounds.same_bits(np.array(mine.numpy()), np.array(other.numpy()))


def test_evaluation_counts_tokens_and_leaves_dropout_out() -> None:
    trainer, text = tiny_text.trainer("fp32", dropout=0.5), tiny_text.text()
    first, again = (
        trainer.evaluator.score(trainer.feed(text, 12).test, 0),
        trainer.evaluator.score(trainer.feed(text, 99).test, 0),
    )
    assert first[0] == again[0] and abs(first[1] - again[1]) < 2 * bounds.EPS["float32"] * first[1]
    assert trainer.evaluate(text) == first and trainer.model.training
    batch = text.test.batch(range(3))
    trainer.model.eval()
    logits = trainer.evaluator.logits(batch).numpy()
    assert first[0] == (logits.argmax(1) == batch.labels).sum() / text.test.tokens


def test_images_are_refused() -> None:
    trainer = tiny_text.trainer("fp32", "reference")
    with pytest.raises(TypeError, match=r"x must .* got ndarray"):
        trainer.step(np.zeros((1, 8, 8, 1)), np.zeros(1, np.int64))
    with pytest.raises(TypeError, match=r"predict must .* got a TranslationTrainer"):
        trainer.predict(np.zeros((1, 8, 8, 1)))


def test_unknown_tokens_are_refused_before_anything() -> None:
    with fe.random.fork(0):
        model = fe.models.transformer.Transformer(5, 8, 2, 8, 1)
    trainer = fe.translation.TranslationTrainer(model, "fp32", device="reference")
    with pytest.raises(ValueError, match=r"dataset 'tiny' must .* got 19"):
        trainer.fit(tiny_text.text(), 1, 50)


def test_micro_batches_are_for_images() -> None:
    model = fe.models.transformer.create("transformer-tiny", 300)
    with pytest.raises(ValueError, match="accumulate must be 1 with sentence pairs, got 2"):
        fe.translation.TranslationTrainer(model, "fp16", "adam", 1e-3, accumulate=2)
