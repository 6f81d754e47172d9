"""The tape: where gradients flow, how they add, when memory goes, and what misuse is told."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F
from fp16engine.autograd import Function, is_recording


def leaf(data: object, device: str, dtype: str = "float32") -> fe.Tensor:
    return fe.tensor(data, dtype, device, requires_grad=True)


def test_diamond(backend_name: str) -> None:
    x = leaf([3.0], backend_name)
    y = x * x
    z = y * 2.0 + y * y
    z.sum().backward()
    assert x.grad.numpy().tolist() == [2 * 2 * 3 + 4 * 27]


def test_a_node_waits_for_all_its_paths(backend_name: str) -> None:
    # y is used early and late; its backward must run once, after both uses
    x = leaf([2.0], backend_name)
    y = x * x
    z = F.relu(y)
    for _ in range(5):
        z = z * 1.0
    (z + y * 3.0).sum().backward()
    assert x.grad.item() == 4 * 2 * 2


def test_leaf_gradients_accumulate_over_calls(backend_name: str) -> None:
    x = leaf([1.0, 2.0], backend_name)
    for _ in range(3):
        (x * x).sum().backward()
    assert x.grad.numpy().tolist() == [6.0, 12.0]
    assert x.grad.node is None and not x.grad.requires_grad


def test_shared_leaf_on_both_sides(backend_name: str) -> None:
    x = leaf([[1.0, 2.0], [3.0, 4.0]], backend_name)
    (x @ x).sum().backward()
    data = x.numpy()
    ones = np.ones((2, 2))
    np.testing.assert_array_equal(x.grad.numpy(), ones @ data.T + data.T @ ones)


def test_meeting_gradients_round_to_their_dtype(backend_name: str) -> None:
    x = leaf([1.0], backend_name, "float16")
    (x * 2048.0 + x).backward()
    assert x.grad.dtype == "float16"
    assert x.grad.item() == 2048.0  # 2049 has no bits in binary16


def test_only_what_is_needed(backend_name: str) -> None:
    images = fe.tensor(np.ones((1, 4, 4, 2)), device=backend_name)
    layer = fe.nn.Conv2d(2, 3, 3).to(backend_name)
    y = layer(images)
    assert y.node.needs == (False, True, True)
    y.sum().backward()
    assert images.grad is None
    assert layer.weight.grad.shape == layer.weight.shape


def test_gradient_of_a_computed_tensor_is_not_kept(backend_name: str) -> None:
    x = leaf([1.0], backend_name)
    y = x * 2.0
    (y * 3.0).backward()
    assert y.requires_grad and y.grad is None


def test_backward_on_a_leaf(backend_name: str) -> None:
    x = leaf(2.0, backend_name)
    x.backward()
    assert x.grad.item() == 1.0


def test_given_gradient_scales(backend_name: str) -> None:
    x = leaf([1.0, 2.0], backend_name, "float16")
    (x * x).backward(fe.tensor([1024.0, 0.5], "float16", backend_name))
    assert x.grad.numpy().tolist() == [2048.0, 2.0]


def test_no_grad_context_and_decorator(backend_name: str) -> None:
    x = leaf([1.0], backend_name)
    with fe.no_grad():
        assert not is_recording()
        y = x * 2.0
        with fe.no_grad():
            pass
        assert not is_recording()
    assert is_recording()
    assert not y.requires_grad and y.node is None

    @fe.no_grad()
    def factorial(n: int) -> int:
        assert not is_recording()
        return 1 if n == 0 else n * factorial(n - 1)

    assert factorial(4) == 24
    assert is_recording()


def test_no_grad_ends_after_an_error() -> None:
    with pytest.raises(KeyError), fe.no_grad():
        raise KeyError
    assert is_recording()


def test_detach_stops_the_gradient(backend_name: str) -> None:
    x = leaf([3.0], backend_name)
    y = x * x
    (y * y.detach()).backward()
    assert x.grad.item() == 9 * 6


def test_astype_and_to_carry_gradients_back(backend_name: str) -> None:
    x = leaf([1.0, 2.0], backend_name)
    (x.astype("float16") * 3.0).astype("float32").sum().backward()
    assert x.grad.dtype == "float32"
    assert x.grad.numpy().tolist() == [3.0, 3.0]
    x = leaf([1.0, 2.0], backend_name)
    (x.to("reference") * 2.0).sum().backward()
    assert (x.grad.device, x.grad.numpy().tolist()) == (backend_name, [2.0, 2.0])


def test_indexing_twice_adds_up(backend_name: str) -> None:
    x = leaf([1.0, 2.0, 3.0], backend_name)
    x[[0, 0, 2]].sum().backward()
    assert x.grad.numpy().tolist() == [2.0, 0.0, 1.0]


def test_broadcast_gradients_are_summed(backend_name: str) -> None:
    x, b, s = leaf(np.ones((4, 3)), backend_name), leaf(np.ones(3), backend_name), leaf(2.0, backend_name)
    ((x + b) * s).sum().backward()
    assert b.grad.numpy().tolist() == [8.0] * 3
    assert (s.grad.shape, s.grad.item()) == ((), 24.0)


def test_power_zero_has_no_gradient(backend_name: str) -> None:
    x = leaf([0.0, 2.0], backend_name)
    (x**0).sum().backward()
    assert x.grad.numpy().tolist() == [0.0, 0.0]


def test_second_backward_is_refused(backend_name: str) -> None:
    x = leaf([1.0], backend_name)
    shared = x * x
    first, second = shared * 2.0, shared * 3.0
    first.backward()
    with pytest.raises(RuntimeError, match=r"compute it again before a second backward\(\)"):
        first.backward()
    with pytest.raises(RuntimeError, match="its saved arrays are gone"):
        second.backward()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: (x * 2.0).backward(), ValueError, r"grad must be given .*\(2,\), got None"),
        (lambda x: x.detach().sum().backward(), RuntimeError, "depends on no tensor with requires_grad=True"),
        (lambda x: x.backward(1.0), TypeError, "grad must .* got"),
        (lambda x: x.backward(x.astype("float16")), TypeError, "grad must be float32 .* got float16"),
        (lambda x: x.backward(x.sum()), ValueError, r"grad must be of shape \(2,\) .* got \(\)"),
    ],
)
def test_wrong_backward(
    backend_name: str, call: Callable[[fe.Tensor], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(leaf([1.0, 2.0], backend_name))


class Watch(Function):
    """Identity that records, when its gradient arrives, whether an array of a later node is still alive."""

    seen: list[bool]
    watched: weakref.ref

    def forward(self, x: np.ndarray) -> np.ndarray:
        return self.backend.copy(x)

    def backward(self, dy: np.ndarray) -> tuple[np.ndarray]:
        Watch.seen.append(Watch.watched() is None)
        return (dy,)


def test_memory_falls_during_the_walk(backend_name: str) -> None:
    Watch.seen = []
    x = leaf(np.ones(8), backend_name)
    late = Watch.apply(x) * leaf(np.full(8, 2.0), backend_name)
    out = F.tanh(late)
    Watch.watched = weakref.ref(out.data)
    loss = out.sum()
    del out, late
    assert Watch.watched() is not None, "tanh keeps its output for its gradient"
    loss.backward()
    assert Watch.seen == [True]


def test_inputs_nobody_needs_are_freed_at_once(backend_name: str) -> None:
    x = leaf(np.ones(8), backend_name)
    inner = x * 2.0
    gone = weakref.ref(inner.data)
    y = F.relu(inner)
    del inner
    assert gone() is None, "relu keeps its output, not its input"
    y.sum().backward()


def test_a_long_tape_does_not_recurse(backend_name: str) -> None:
    x = leaf([1.0], backend_name)
    y = x
    for _ in range(5000):
        y = y + 0.0
    y.backward()
    assert x.grad.item() == 1.0


@pytest.mark.parametrize(
    ("function", "a_grad", "b_grad"),
    [
        (lambda a, b: a - b, [[1.0, 1.0]], [[-2.0]]),
        (lambda a, b: a / b, [[0.5, 0.5]], [[-1.0]]),
        (lambda a, b: 3.0 - a + b / 4.0, [[-1.0, -1.0]], [[0.5]]),
        (lambda a, b: 8.0 / b + 0.0 * a, [[0.0, 0.0]], [[-4.0]]),
        (lambda a, b: F.relu(-a) + F.relu(b), [[0.0, 0.0]], [[2.0]]),
        (lambda a, b: F.cat([a, b], 1)[:, 1:], [[0.0, 1.0]], [[1.0]]),
        (lambda a, b: F.pad_channels(a, 1, 2)[:, 1:3] * b, [[2.0, 2.0]], [[4.0]]),
        (lambda a, b: a.max(axis=1, keepdims=True) * b, [[0.0, 2.0]], [[3.0]]),
        (lambda a, b: a.mean(axis=1) * b, [[1.0, 1.0]], [[2.0]]),
    ],
)
def test_exact_gradients(
    backend_name: str, function: Callable, a_grad: list[list[float]], b_grad: list[list[float]]
) -> None:
    a, b = leaf([[1.0, 3.0]], backend_name, "float16"), leaf([[2.0]], backend_name, "float16")
    function(a, b).sum().backward()
    assert a.grad.numpy().tolist() == a_grad
    assert b.grad.numpy().tolist() == b_grad


def test_a_result_that_is_kept_lets_go_of_what_it_saved(backend_name: str) -> None:
    x = leaf(np.ones(8), backend_name)
    inner = x * 2.0
    gone = weakref.ref(inner.data)
    kept = inner * inner
    del inner
    assert gone() is not None
    kept.sum().backward()
    assert gone() is None


class Halves(Function):
    """Two results, 3x and 5x, and the gradients that come for them."""

    outputs = 2
    seen: list[tuple[bool, bool]]

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return tuple(self.backend.binary("mul", x, factor) for factor in (3.0, 5.0))

    def backward(self, da: np.ndarray | None, db: np.ndarray | None) -> tuple[np.ndarray]:
        Halves.seen.append((da is not None, db is not None))
        parts = [
            self.backend.binary("mul", d, factor) for d, factor in ((da, 3.0), (db, 5.0)) if d is not None
        ]
        return (parts[0] if len(parts) == 1 else self.backend.binary("add", *parts),)


@pytest.mark.parametrize(
    ("loss", "seen", "grad"),
    [
        (lambda a, b: a * 2.0 + b * 4.0 + a, (True, True), 3 * 3 + 5 * 4),
        (lambda a, b: a * 2.0, (True, False), 3 * 2),
        (lambda a, b: b * b, (False, True), 2 * 5 * 5 * 7),
    ],
)
def test_a_node_of_two_results_is_visited_once(
    backend_name: str, loss: Callable, seen: tuple[bool, bool], grad: float
) -> None:
    Halves.seen = []
    x = leaf([7.0], backend_name)
    a, b = Halves.apply_all(x)
    assert (a.item(), b.item()) == (21.0, 35.0) and a.node is b.node
    loss(a, b).backward()
    assert Halves.seen == [seen]
    assert x.grad.item() == grad


@pytest.mark.parametrize("used", ["sum", "norm", "both"])
def test_batch_norm_of_sum_has_the_gradients_of_a_sum_and_a_norm(backend_name: str, used: str) -> None:
    rng = np.random.default_rng(5)
    values = [rng.standard_normal(shape) for shape in ((6, 3), (6, 3), 3, 3)]
    weights = fe.tensor(rng.standard_normal((6, 3)), "float16", backend_name)
    grads = []
    for fused in (True, False):
        x, addend, gamma, beta = leaves = [leaf(v, backend_name, "float16") for v in values]
        mean, var = (fe.tensor(np.full(3, v), "float16", backend_name) for v in (0.0, 1.0))
        if fused:
            s, y = F.batch_norm_of_sum(x, addend, gamma, beta, mean, var, training=True)
        else:
            s = x + addend
            y = F.batch_norm(s, gamma, beta, mean, var, training=True)
        parts = {"sum": (s,), "norm": (y,), "both": (s * 3.0, y)}[used]
        sum((part * weights for part in parts[1:]), parts[0] * weights).sum().backward()
        grads.append([None if t.grad is None else t.grad.numpy() for t in leaves])
    for fused, apart in zip(*grads, strict=True):
        np.testing.assert_array_equal(fused, apart)


@pytest.mark.parametrize("used", ["cat", "norm", "both"])
def test_batch_norm_of_cat_has_the_gradients_of_a_cat_and_a_norm(backend_name: str, used: str) -> None:
    rng = np.random.default_rng(6)
    values = [rng.standard_normal(shape) for shape in ((6, 8), (6, 3), 11, 11)]
    weights = fe.tensor(rng.standard_normal((6, 11)), "float16", backend_name)
    found = []
    for fused in (True, False):
        x, joined, gamma, beta = leaves = [leaf(v, backend_name, "float16") for v in values]
        mean, var = (fe.tensor(np.full(11, v), "float16", backend_name) for v in (0.0, 1.0))
        if fused:
            s, y = F.batch_norm_of_cat(x, joined, gamma, beta, mean, var, training=True)
        else:
            s = F.cat([x, joined], axis=-1)
            y = F.batch_norm(s, gamma, beta, mean, var, training=True)
        parts = {"cat": (s,), "norm": (y,), "both": (s * 3.0, y)}[used]
        sum((part * weights for part in parts[1:]), parts[0] * weights).sum().backward()
        grads = [None if t.grad is None else t.grad.numpy() for t in leaves]
        found.append([s.numpy(), y.numpy(), mean.numpy(), var.numpy(), *grads])
    for fused, apart in zip(*found, strict=True):
        np.testing.assert_array_equal(fused, apart)
