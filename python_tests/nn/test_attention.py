"""Masks of attention: what is hidden has no influence, to the bit, and the layer passes masks on."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F

DTYPES = ("float16", "float32")


def _arrays(dtype: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def _attention(device: str, q: Any, k: Any, v: Any, **options: Any) -> np.ndarray:
    lengths = options.pop("key_lengths", None)
    if lengths is not None:
        options["key_lengths"] = fe.tensor(np.array(lengths, np.int64), device=device)
    q, k, v = (fe.tensor(a, device=device) for a in (q, k, v))
    return np.array(F.attention(q, k, v, **options).numpy())


@pytest.mark.parametrize(
    ("dtype", "precision"), [("float32", "fp32"), ("float16", "fp16"), ("float16", "fp16-strict")]
)
def test_padding_changes_no_bit(backend_name: str, dtype: str, precision: str) -> None:
    """A sequence by itself, and the same one padded to several lengths with large numbers."""
    q, k, v = _arrays(dtype, (2, 2, 3, 8), (2, 2, 41, 8), (2, 2, 41, 8))
    with fe.Precision.get(precision).use():
        for length in (1, 16, 33):
            alone = _attention(backend_name, q, *(np.ascontiguousarray(a[:, :, :length]) for a in (k, v)))
            for padded in (length, 34, 41):
                keys, values = (np.ascontiguousarray(a[:, :, :padded]) for a in (k, v))
                keys[:, :, length:] = values[:, :, length:] = bounds.MAX[dtype] / 64
                lengths = [length] * 2
                bounds.same_bits(_attention(backend_name, q, keys, values, key_lengths=lengths), alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_causal_hides_the_future(backend_name: str, dtype: str) -> None:
    """Whatever comes after a position, its output keeps its bits."""
    q, k, v = _arrays(dtype, *[(1, 2, 9, 4)] * 3)
    before = _attention(backend_name, q, k, v, causal=True)
    for position in range(8):
        later_k, later_v = k.copy(), v.copy()
        later_k[:, :, position + 1 :] *= -3
        later_v[:, :, position + 1 :] += 2
        after = _attention(backend_name, q, later_k, later_v, causal=True)
        bounds.same_bits(after[:, :, : position + 1], before[:, :, : position + 1])
        assert not np.array_equal(after[:, :, position + 1 :], before[:, :, position + 1 :])


def test_no_key_gives_zeros_and_no_gradient(backend_name: str) -> None:
    q, k, v = (
        fe.tensor(a, device=backend_name, requires_grad=True)
        for a in _arrays("float16", (2, 1, 3, 4), (2, 1, 5, 4), (2, 1, 5, 4))
    )
    lengths = fe.tensor(np.array([0, 2]), device=backend_name)
    y = F.attention(q, k, v, key_lengths=lengths)
    assert not y.numpy()[0].any() and y.numpy()[1].all()
    y.sum().backward()
    for grad in (q.grad, k.grad, v.grad):
        assert grad is not None
        assert not grad.numpy()[0].any() and grad.numpy()[1].any()
    for grad in (k.grad, v.grad):
        assert grad is not None and not grad.numpy()[1, :, 2:].any()


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"lengths": (1, 2)}])
def test_layer_is_two_halves(options: dict[str, Any]) -> None:
    """A call equals `project` and `attend`, and reads memory, mask and lengths."""
    with fe.random.fork(3):
        layer = fe.nn.MultiHeadAttention(8, 2).to("reference")
    x, memory = (fe.tensor(a, device="reference") for a in _arrays("float32", (2, 3, 8), (2, 3, 8)))
    masks: dict[str, Any] = {"causal": options.get("causal", False), "key_lengths": None}
    if "lengths" in options:
        masks["key_lengths"] = fe.tensor(np.array(options["lengths"]), device="reference")
    whole = layer(x, memory, **masks).numpy()
    bounds.same_bits(layer.attend(x, *layer.project(memory), **masks).numpy(), whole)
    assert not np.array_equal(whole, layer(x, **masks).numpy())
    if options:
        assert not np.array_equal(whole, layer(x, memory).numpy())
    with pytest.raises(ValueError, match=r"memory must .* got \(3, 8\)"):
        layer(x, memory[0])


@pytest.mark.parametrize("case", ["plain", "causal", "lengths", "long"])
@pytest.mark.parametrize(
    ("dtype", "precision"),
    [("float32", "fp32"), ("float16", "fp16"), ("float16", "fp16-strict"), ("float32", "hbfp4")],
)
def test_heads_side_by_side_have_the_bits_of_heads_apart(
    backend_name: str, dtype: str, precision: str, case: str
) -> None:
    batch, heads, queries, keys, width = 2, 3, 5, 7, 11
    options: dict[str, Any] = {}
    if case == "causal":
        keys, options["causal"] = queries, True
    elif case == "lengths":
        options["key_lengths"] = fe.tensor(np.array([0, 4]), device=backend_name)
    elif case == "long":  # beyond the kernels that take a head in one piece
        batch, heads, keys, width = 1, 2, 130, 3
    shapes = [(batch, n, heads * width) for n in (queries, keys, keys)]
    values, weights = _arrays(dtype, *shapes), _arrays(dtype, shapes[0])[0]
    found = []
    for together in (True, False):
        q, k, v = given = [fe.tensor(a, device=backend_name, requires_grad=True) for a in values]
        with fe.random.fork(0), fe.Precision.get(precision).use():
            if together:
                y = F.attention(q, k, v, heads=heads, **options)
            else:
                q, k, v = (F.transpose(F.reshape(t, (batch, -1, heads, width)), (0, 2, 1, 3)) for t in given)
                y = F.transpose(F.attention(q, k, v, **options), (0, 2, 1, 3))
                y = F.reshape(y, (batch, queries, heads * width))
            (y * fe.tensor(weights, device=backend_name)).sum().backward()
        found.append([y, *(t.grad for t in given)])
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None
        bounds.same_bits(np.array(one.numpy()), np.array(other.numpy()))


def test_heads_have_one_width() -> None:
    q = fe.tensor(np.zeros((1, 2, 6), np.float32), device="reference")
    with pytest.raises(ValueError, match=r"attention: heads must be a divisor of the width 6 of k, got 4"):
        F.attention(q, q, q, heads=4)
    with pytest.raises(ValueError, match=r"attention: q must .*B, S, H \* D"):
        F.attention(F.reshape(q, (1, 1, 2, 6)), q, q, heads=2)
