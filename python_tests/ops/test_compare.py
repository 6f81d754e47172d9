"""Comparisons, choices and sigmoids: exact where nothing is rounded, accurate where it is."""

# mypy: disable-error-code="call-arg"
# Wrong names of arguments are tested here.

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F
from fp16engine import nn

A = np.array([[-1.0, 0.0, np.nan], [2.0, np.inf, -0.0]], np.float16)
B = np.array([0.0, 0.0, np.nan], np.float16)


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons_are_numpys(name: str, backend_name: str) -> None:
    compare = getattr(operator, name)
    a, b = (fe.tensor(v, device=backend_name) for v in (A, B))
    for ours, theirs in (
        (compare(a, b), compare(A, B)),
        (compare(a, 0), compare(A, 0)),
        (compare(0.5, a), compare(0.5, A)),
    ):
        assert ours.dtype == "bool" and ours.device == backend_name and not ours.requires_grad
        np.testing.assert_array_equal(ours.numpy(), theirs)


def test_a_number_is_not_rounded_to_the_tensors_dtype() -> None:
    x = fe.tensor([0.1], "float16")
    assert not (x == 0.1).item() and (x == float(np.float16(0.1))).item()
    assert (fe.tensor([2**53 + 1]) != 2**53).item()


def test_a_tensor_is_hashed_by_identity_and_never_equals_other_things() -> None:
    a, b = fe.tensor([1.0]), fe.tensor([1.0])
    assert len({a, b, a}) == 2 and {a: 1}[a] == 1
    assert (a == None) is False and (a != "a") is True  # noqa: E711
    with pytest.raises(TypeError, match=r"eq: an operand must be a Tensor .*, got ndarray"):
        a == np.ones(1)  # noqa: B015
    with pytest.raises(ValueError, match=r"lt: shapes must broadcast, got \(1,\) and \(2, 3\)|broadcast"):
        fe.tensor([1.0, 2.0]) < fe.tensor(np.ones(3))  # noqa: B015
    with pytest.raises(TypeError):
        a < "b"  # type: ignore[operator]  # noqa: B015


def test_masks_index_choose_and_become_numbers(backend_name: str) -> None:
    x = fe.tensor(np.array([-2.0, 1.0, 3.0], np.float16), device=backend_name, requires_grad=True)
    assert x[x > 0].numpy().tolist() == [1.0, 3.0]
    assert (x > 0).astype("float16").numpy().tolist() == [0.0, 1.0, 1.0]
    F.where(x > 0, x * 3.0, 0.0).sum().backward()
    assert x.grad.numpy().tolist() == [0.0, 3.0, 3.0]


def test_truth_values_are_combined_cut_and_turned(backend_name: str) -> None:
    x = fe.tensor(np.array([[-2.0, 1.0], [3.0, 0.5]], np.float32), device=backend_name)
    a, b = x > 0, x < 1
    assert (a & b).numpy().tolist() == [[False, False], [False, True]]
    assert (a | b).all() and not (a & ~a).any()
    assert a[0].numpy().tolist() == [False, True] and a.T.numpy().tolist() == [[False, True], [True, True]]
    assert a.reshape(-1).dtype == "bool"
    for wrong in (lambda: x & a, lambda: ~x, lambda: a | 1):  # type: ignore[operator]
        with pytest.raises(TypeError):
            wrong()


def test_where_keeps_inf_and_nan_out_of_what_it_did_not_choose() -> None:
    x = fe.tensor([0.0, 4.0], "float16", requires_grad=True)
    y = F.where(x > 0, F.log(x), 1.0)
    assert y.numpy().tolist() == [1.0, float(np.float16(np.log(4)))]
    bad = fe.tensor([np.inf, 1.0], "float16", requires_grad=True)
    F.where(np.array([False, True]), bad, 0.0).sum().backward()
    assert bad.grad.numpy().tolist() == [0.0, 1.0]


def test_argmax_takes_the_first() -> None:
    x = fe.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 2.0]])
    assert x.argmax().item() == 1 and x.argmax(axis=1).numpy().tolist() == [1, 0]
    assert x.argmax(0, keepdims=True).shape == (1, 3) and x.argmax().dtype == "int64"


@pytest.mark.parametrize(("name", "bound"), [("sigmoid", 2.0), ("silu", 4.0)])
def test_sigmoids_lose_few_ulps_over_all_of_binary16(name: str, bound: float) -> None:
    """Roundings of half an ulp, four and six of them; measured 1.64 and 3.34 ulp."""
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    x = x[np.abs(x) < 2.0**15]
    exact = 1 / (1 + np.exp(-np.clip(x.astype(np.float64), -700, 700)))
    exact = exact * x if name == "silu" else exact
    y = getattr(F, name)(fe.tensor(x)).numpy().astype(np.float64)
    ulp = np.spacing(np.abs(exact).astype(np.float16)).astype(np.float64)
    assert np.max(np.abs(y - exact) / ulp) <= bound


def test_sigmoids_pass_nan_on_and_end_at_their_limits() -> None:
    x = fe.tensor([np.nan, -np.inf, np.inf], "float16")
    assert np.isnan(F.sigmoid(x).numpy()[0]) and F.sigmoid(x).numpy()[1:].tolist() == [0.0, 1.0]


def test_the_gradient_of_a_saturated_sigmoid_is_not_lost() -> None:
    """1 - y is 0 there, sigmoid(-x) is not."""
    x = fe.tensor([9.0], "float16", requires_grad=True)
    F.sigmoid(x).sum().backward()
    assert x.grad.item() == pytest.approx(np.exp(-9.0), rel=4 * float(np.finfo(np.float16).eps))


def test_group_norm_normalises_each_group() -> None:
    x = np.random.default_rng(0).normal(3, 2, (2, 4, 5, 6)).astype(np.float32)
    y = F.group_norm(fe.tensor(x), 3, fe.tensor([1.0] * 6), fe.tensor([0.0] * 6))
    groups = x.astype(np.float64).reshape(2, 20, 3, 2)
    mean, var = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    expected = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
    assert np.abs(y.numpy() - expected).max() <= 32 * np.finfo(np.float32).eps


def test_adaptive_pooling_is_pytorchs() -> None:
    """Rows 0-1, 1-3, 3-4 of five; columns likewise: floor and ceil."""
    x = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)
    y = nn.AdaptiveAvgPool2d(3)(fe.tensor(x)).numpy()[0, :, :, 0]
    cuts = [(0, 2), (1, 4), (3, 5)]
    assert y.tolist() == [[float(x[0, a:b, c:d].mean()) for c, d in cuts] for a, b in cuts]


def test_adaptive_pooling_to_a_larger_size_repeats_pixels() -> None:
    y = F.adaptive_avg_pool2d(fe.tensor([[[[1.0], [3.0]]]], dtype="float32"), (2, 3))
    assert y.numpy()[0, :, :, 0].tolist() == [[1.0, 2.0, 3.0]] * 2


def _hint(call: Callable[[Any], Any]) -> Callable[[], Any]:
    return lambda: call(fe.tensor([[1.0, 2.0]]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (_hint(lambda x: x.sum(dim=1)), "dim must be given as axis, NumPy's name, got 1"),
        (_hint(lambda x: x.max(dim=1)), "dim must be given as axis"),
        (_hint(lambda x: x.argmax(dim=1)), "dim must be given as axis"),
        (_hint(lambda x: x.mean(axis=1, keepdim=True)), "keepdim must be given as keepdims"),
        (_hint(lambda x: F.softmax(x, dim=-1)), "dim must be given as axis"),
        (_hint(lambda x: F.log_softmax(x, dim=-1)), "dim must be given as axis"),
        (_hint(lambda x: F.cat([x, x], dim=0)), "dim must be given as axis"),
        (_hint(lambda x: F.where(x, x, x)), "where: condition must be bool, .* got float32"),
        (_hint(lambda x: F.where(x > 0, 1.0, 2.0)), r"where: a or b must be a Tensor, got \(1.0, 2.0\)"),
        (_hint(lambda x: F.where(np.ones(3, bool), x, x)), "where: shapes must broadcast"),
        (_hint(lambda x: F.argmax(x, 2)), "argmax: axis must be an integer from -2 to 1, got 2"),
        (_hint(lambda x: F.group_norm(x, 2, x, x)), r"group_norm: gamma must be of shape \(2,\)"),
        (_hint(lambda x: F.adaptive_avg_pool2d(x, 1)), r"adaptive_avg_pool2d: x must be of shape"),
        (lambda: nn.GroupNorm(3, 4), "GroupNorm: num_groups must be a divisor of 4, got 3"),
        (lambda: nn.Conv2d(1, 1), "Conv2d: size or kernel_size must be given once, got neither"),
        (lambda: nn.MaxPool2d(2, kernel_size=2), "MaxPool2d: size or kernel_size .* got both"),
    ],
)  # fmt: skip
def test_wrong_arguments_and_names_of_others(call: Callable[[], Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        call()


def test_names_of_others_mean_the_same() -> None:
    x = fe.tensor(np.arange(6.0).reshape(2, 3))
    assert x.view(3, 2).numpy().tolist() == x.reshape(3, 2).numpy().tolist()
    assert x.permute(1, 0).numpy().tolist() == x.T.numpy().tolist()
    assert repr(nn.Conv2d(2, 4, kernel_size=3)) == repr(nn.Conv2d(2, 4, 3))
    assert repr(nn.AvgPool2d(kernel_size=2, stride=1)) == repr(nn.AvgPool2d(2, 1))
