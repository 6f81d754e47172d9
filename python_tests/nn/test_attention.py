"""Masks of attention: what is hidden has no influence, to the bit, and the layer passes masks on."""

from __future__ import annotations

import copy
from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine import functional as F
from fp16engine.backend.neighbours import as_one

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


@pytest.mark.parametrize("case", ["plain", "causal", "lengths", "tile", "long"])
@pytest.mark.parametrize(
    ("dtype", "precision"),
    [("float32", "fp32"), ("float16", "fp16"), ("float16", "fp16-strict"), ("float32", "hbfp4")],
)
def test_queries_keys_and_values_in_one_array_have_the_bits_of_three(
    backend_name: str, dtype: str, precision: str, case: str
) -> None:
    batch, heads, rows, width = {"tile": (2, 2, 32, 5), "long": (1, 2, 130, 3)}.get(case, (2, 3, 5, 11))
    options: dict[str, Any] = {"heads": heads, "causal": case == "causal"}
    if case == "lengths":
        options["key_lengths"] = fe.tensor(np.array([0, 4]), device=backend_name)
    size = heads * width
    values, weights = _arrays(dtype, (batch, rows, 3 * size), (batch, rows, size))
    thirds = [np.ascontiguousarray(part) for part in np.split(values, 3, axis=2)]
    found = []
    for arrays in ([values], thirds):
        given = [fe.tensor(a, device=backend_name, requires_grad=True) for a in arrays]
        with fe.random.fork(0), fe.Precision.get(precision).use():
            q, k, v = (given[0], None, None) if len(given) == 1 else given
            y = F.attention(q, k, v, **options)
            (y * fe.tensor(weights, device=backend_name)).sum().backward()
        grads = [np.array(t.grad.numpy()) for t in given if t.grad is not None]
        found.append((np.array(y.numpy()), np.concatenate(grads, axis=2)))
    for one, other in zip(*found, strict=True):
        bounds.same_bits(one, other)


def test_one_array_needs_heads_that_divide_its_thirds() -> None:
    q = fe.tensor(np.zeros((1, 2, 12), np.float32), device="reference")
    with pytest.raises(ValueError, match=r"attention: heads must be .* got None"):
        F.attention(q)
    with pytest.raises(ValueError, match=r"heads must be a divisor of a third of the width 12 of q, got 3"):
        F.attention(q, heads=3)
    with pytest.raises(ValueError, match=r"k and v must both be .* got one of each"):
        F.attention(q, q, heads=2)
    with pytest.raises(ValueError, match=r"q must have at least one row, got shape \(1, 0, 12\)"):
        F.attention(q[:, :0], heads=2)


def _layer(device: str, precision: str, dim: int = 16) -> fe.nn.MultiHeadAttention:
    with fe.random.fork(3):
        return fe.nn.MultiHeadAttention(dim, 2).to(device, precision)


def _shares(layer: fe.nn.MultiHeadAttention) -> bool:
    """Whether the three weights lie one after another, and the three biases."""
    parts = (layer.query, layer.key, layer.value)
    biases = [part.bias.data for part in parts if part.bias is not None]
    return as_one([part.weight.data for part in parts]) is not None and as_one(biases) is not None


def _passes(layer: fe.nn.MultiHeadAttention, device: str, precision: str) -> list[np.ndarray]:
    """y and the gradients of x and of every parameter."""
    dtype = layer.out.weight.dtype
    values, weights = _arrays(dtype, (2, 5, 16), (2, 5, 16))
    x = fe.tensor(values, device=device, requires_grad=True)
    layer.zero_grad()
    with fe.Precision.get(precision).use():
        y = layer(x)
        (y * fe.tensor(weights, device=device)).sum().backward()
    return [np.array(t.numpy()) for t in (y, x.grad, *(p.grad for p in layer.parameters())) if t is not None]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "fp16-strict"])
def test_a_layer_that_reads_itself_has_the_bits_of_three_maps(backend_name: str, precision: str) -> None:
    """But for the gradient of x, which is one sum rounded once in place of three."""
    layer = _layer(backend_name, precision)
    y, dx, *grads = _passes(layer, backend_name, precision)
    apart = _layer(backend_name, precision)
    apart.key = _OfItsOwn(apart.key)  # type: ignore[assignment]
    y_apart, dx_apart, *grads_apart = _passes(apart, backend_name, precision)
    bounds.same_bits(y, y_apart)
    for one, other in zip(grads, grads_apart, strict=True):
        bounds.same_bits(one, other)
    assert dx.shape == dx_apart.shape and not np.array_equal(dx, dx_apart)


class _OfItsOwn(fe.nn.Module):
    """A map that is no plain `Linear`: an adapter around one, for example."""

    def __init__(self, layer: fe.nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: fe.Tensor) -> fe.Tensor:
        return F.linear(x, self.weight, self.bias)


def test_weights_that_are_used_as_one_lie_together(backend_name: str) -> None:
    """After a move and after loading; names and values stay, and a layer computes the same without."""
    layer = _layer(backend_name, "fp16")
    assert _shares(layer)
    assert list(layer.state_dict())[:4] == ["query.weight", "query.bias", "key.weight", "key.bias"]
    together = _passes(layer, backend_name, "fp16")

    for part in (layer.query, layer.key, layer.value):
        part.weight.data = backends.get(backend_name).copy(part.weight.data)
    assert not _shares(layer)
    for one, other in zip(_passes(layer, backend_name, "fp16"), together, strict=True):
        bounds.same_bits(one, other)
    layer.lay_out()
    assert _shares(layer)
    before = layer.query.weight.data
    layer.lay_out()
    assert layer.query.weight.data is before

    twin = copy.deepcopy(layer)
    state = layer.state_dict()
    twin.load_state_dict({name: values * 2 for name, values in state.items()})
    assert _shares(twin)
    for name, values in twin.state_dict().items():
        bounds.same_bits(values, state[name] * 2)
    for name, values in layer.state_dict().items():
        bounds.same_bits(values, state[name])


def test_an_update_of_one_weight_leaves_the_others(backend_name: str) -> None:
    layer = _layer(backend_name, "fp16")
    before = layer.state_dict()
    optimizer = fe.optim.SGD([layer.key.weight], lr=0.5)
    _passes(layer, backend_name, "fp16")
    optimizer.step()
    after = layer.state_dict()
    assert [name for name in before if not np.array_equal(before[name], after[name])] == ["key.weight"]


def test_weights_of_odd_sizes_stay_where_they_are(backend_name: str) -> None:
    """Vector loads of a GPU want every tensor to begin at a multiple of 16 bytes."""
    layer = fe.nn.MultiHeadAttention(3, 1).to(backend_name, "fp16")
    assert as_one([layer.query.weight.data, layer.key.weight.data, layer.value.weight.data]) is None
    x = fe.tensor(np.ones((1, 2, 3), np.float16), device=backend_name)
    assert layer(x).shape == (1, 2, 3)
