"""The translation network: shapes, masks, and decoding step by step, to the bit."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.models import transformer

VOCABULARY = 13
POLICIES = [("fp32", "cpu"), ("fp16", "cpu"), ("fp16", "reference"), ("fp16-strict", "reference")]


def small(device: str = "reference", precision: str = "fp32", **options: Any) -> transformer.Transformer:
    with fe.random.fork(2):
        model = transformer.Transformer(VOCABULARY, 8, 2, 12, 2, **options)
    model.to(device, precision).eval()
    return model


def ids(rows: Any, device: str) -> fe.Tensor:
    return fe.tensor(np.array(rows, np.int64), device=device)


def logits(model: transformer.Transformer, device: str, source: Any, lengths: Any, target: Any) -> np.ndarray:
    return np.array(model(ids(source, device), ids(lengths, device), ids(target, device)).numpy())


def test_sizes_are_the_papers() -> None:
    """65 M parameters for the base model of Vaswani et al. (table 3) with a vocabulary of 37 000."""
    layer, feed_forward = 4 * 512 * 513 + 2 * 512, 512 * 2048 * 2 + 2048 + 512 + 2 * 512
    layers = 6 * (layer + feed_forward) + 6 * (2 * layer + feed_forward) + 2 * 2 * 512
    assert transformer.create("transformer-base", 100).num_parameters() == 100 * 512 + layers
    assert 60e6 < 37000 * 512 + layers < 66e6


@pytest.mark.parametrize(("precision", "device"), POLICIES)
def test_padding_changes_no_bit(precision: str, device: str) -> None:
    """A pair by itself, and next to longer ones."""
    model = small(device, precision)
    with fe.no_grad(), fe.Precision.get(precision).use():
        alone = logits(model, device, [[5, 6, 2]], [3], [[1, 7, 8]])
        source = [[5, 6, 2, 0, 0], [9, 10, 11, 4, 2]]
        target = [[1, 7, 8, 0], [1, 3, 4, 12]]
        together = logits(model, device, source, [3, 5], target)
    bounds.same_bits(np.ascontiguousarray(together[:1, :3]), alone)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_no_position_sees_the_future(norm: str) -> None:
    model = small(norm=norm)
    before = logits(model, "reference", [[5, 2]], [2], [[1, 7, 8, 9]])
    for position in range(3):
        target = [1, 7, 8, 9]
        target[position + 1 :] = [11] * (3 - position)
        after = logits(model, "reference", [[5, 2]], [2], [target])
        bounds.same_bits(after[:, : position + 1], before[:, : position + 1])
        assert not np.array_equal(after[:, position + 1 :], before[:, position + 1 :])


@pytest.mark.parametrize(("precision", "device"), POLICIES)
def test_step_by_step_is_the_whole(precision: str, device: str) -> None:
    """Kept keys and values give the logits of a forward over all positions, also after a selection."""
    model = small(device, precision)
    source, lengths = ids([[5, 6, 2], [7, 2, 0]], device), ids([3, 2], device)
    target = np.array([[1, 7, 8, 4], [1, 9, 3, 3]])
    with fe.no_grad(), fe.Precision.get(precision).use():
        memory = model.encode(source, lengths)
        whole = np.array(model.decode(ids(target, device), memory, lengths).numpy())
        state = model.start(memory, lengths)
        for position in range(4):
            step = model.step(ids(target[:, position], device), state)
            bounds.same_bits(np.array(step.numpy()), np.ascontiguousarray(whole[:, position]))
            state.select(np.array([1, 0]))
            target, whole = target[::-1], whole[::-1]


@pytest.mark.parametrize("options", [{}, {"norm": "post"}, {"shared_embeddings": False}])
def test_every_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    model = small(**options)
    model.train()
    output = model(*(ids(v, "reference") for v in ([[5, 6, 2]], [3], [[1, 7, 8]])))
    assert output.shape == (1, 3, VOCABULARY)
    (output * output).sum().backward()
    for name, parameter in model.named_parameters():
        # a constant added to all scores of a query changes no probability
        flat = name.endswith("attention.key.bias")
        assert parameter.grad is not None, name
        assert flat or parameter.grad.numpy().any(), name
    tables = 1 if options.get("shared_embeddings", True) else 2
    assert sum(p.shape == (VOCABULARY, 8) for p in model.parameters()) == tables


def test_same_seed_same_weights_and_config_builds_it_again() -> None:
    model = transformer.create("transformer-tiny", 300, norm="post", dropout=0.3, seed=5)
    again: Any = fe.models.from_config(model.config or {})
    for mine, other in zip(model.parameters(), again.parameters(), strict=True):
        bounds.same_bits(np.asarray(mine.data), np.asarray(other.data))
    other_seed = transformer.create("transformer-tiny", 300, seed=6)
    assert not np.array_equal(other_seed.source_embedding.weight.data, model.source_embedding.weight.data)
    assert again.decoder[0].feed_forward.dropout.p == 0.3 and not again.norm_first


def test_positions_are_sines_and_cosines() -> None:
    table = transformer.positions(7, 4)
    assert np.allclose(
        table[3], [np.sin(3), np.sin(0.03), np.cos(3), np.cos(0.03)], rtol=bounds.EPS["float32"]
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: transformer.create("transformer-huge", 10), "model must .* got 'transformer-huge'"),
        (lambda: transformer.create("transformer-tiny", 0), r"Transformer: vocabulary must .* got 0"),
        (lambda: transformer.Transformer(9, 7, 1, 8, 1), "Transformer: dim must .* got 7"),
        (lambda: transformer.Transformer(9, 8, 3, 8, 1), r"MultiHeadAttention: num_heads must .* got 3"),
        (lambda: transformer.Transformer(9, 8, 2, 8, 1, norm="mid"), "Transformer: norm must .* got 'mid'"),
        (lambda: logits(small(), "reference", [5, 2], [2], [[1]]), r"Transformer: tokens must .* got \(2,\)"),
    ],
)
def test_wrong_arguments(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
