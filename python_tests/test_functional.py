"""Wrong arguments of operations: one sentence that names the argument, before any kernel runs."""

# mypy: disable-error-code="arg-type, call-arg"
# Wrong arguments are tested here too.

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine import functional as F


def t(*shape: int, dtype: str = "float32") -> fe.Tensor:
    return fe.Tensor(np.ones(shape, dtype), "reference")


def ids(*values: int) -> fe.Tensor:
    return fe.Tensor(np.array(values, np.int64), "reference")


def norm(
    x: fe.Tensor, c: int = 3, dtype: str = "float32", training: bool = True, **options: Any
) -> fe.Tensor:
    statistics = [t(c, dtype=dtype) for _ in range(4)]
    return F.batch_norm(x, *statistics, training, **options)


NORM = fe.nn.BatchNorm2d(3).to("reference")

CASES = [
    (
        lambda: F.relu(np.ones(2)),
        TypeError,
        r"relu: x must .* got ndarray",
    ),
    (
        lambda: F.gelu(ids(1)),
        TypeError,
        r"gelu: x must .* got int64",
    ),
    (lambda: F.linear(t(2, 3), t(4, 2)), ValueError, r"linear: x must .* got \(2, 3\)"),
    (lambda: F.linear(t(2, 3), t(3)), ValueError, r"linear: weight must .* got \(3,\)"),
    (
        lambda: F.linear(t(2, 3), t(4, 3), t(3)),
        ValueError,
        r"linear: bias must .* got \(3,\)",
    ),
    (
        lambda: F.linear(t(2, 3), t(4, 3), t(4, dtype="float16")),
        TypeError,
        r"linear: bias must .* got float16",
    ),
    (
        lambda: F.conv2d(t(2, 5, 5), t(1, 3, 3, 5)),
        ValueError,
        r"conv2d: x must .* got \(2, 5, 5\)",
    ),
    (
        lambda: F.conv2d(t(2, 5, 5, 3), t(3, 3, 3)),
        ValueError,
        r"conv2d: weight must .* got \(3, 3, 3\)",
    ),
    (lambda: F.conv2d(t(2, 5, 5, 3), t(4, 3, 3, 1)), ValueError, r"conv2d: x must .* got 3"),
    (
        lambda: F.conv2d(t(2, 5, 5, 3), t(4, 3, 3, 1), groups=2),
        ValueError,
        r"conv2d: groups must .* got 2",
    ),
    (
        lambda: F.conv2d(t(2, 5, 5, 3), t(4, 3, 3, 3), groups=0),
        ValueError,
        r"conv2d: groups must .* got 0",
    ),
    (
        lambda: F.conv2d(t(2, 5, 5, 3), t(4, 7, 7, 3)),
        ValueError,
        r"conv2d: the padded image must .* got 5x5 from an image of 5x5",
    ),
    (
        lambda: F.conv2d(t(1, 0, 5, 1), t(1, 1, 1, 1), padding="same"),
        ValueError,
        r"conv2d: the padded image must .* got 0x5 from an image of 0x5",
    ),
    (
        lambda: F.conv2d(t(1, 5, 5, 1), t(1, 3, 3, 1), padding="valid"),
        ValueError,
        r"conv2d: padding must .* got 'valid'",
    ),
    (
        lambda: F.conv2d(t(1, 5, 5, 1), t(1, 3, 3, 1), padding=-1),
        ValueError,
        r"conv2d: padding must .* got -1",
    ),
    (
        lambda: F.conv2d(t(1, 5, 5, 1), t(1, 3, 3, 1), stride=0),
        ValueError,
        r"conv2d: stride must .* got 0",
    ),
    (
        lambda: F.conv2d(t(1, 5, 5, 1), t(1, 3, 3, 1), stride=1.5),
        TypeError,
        r"conv2d: stride must .* got 1.5",
    ),
    (
        lambda: norm(t(2, 4)),
        ValueError,
        r"batch_norm: gamma must .* got \(3,\)",
    ),
    (
        lambda: norm(t(2, 3), dtype="float16"),
        TypeError,
        r"batch_norm: gamma must .* got float16",
    ),
    (lambda: norm(t(2, 3), eps=0.0), ValueError, r"batch_norm: eps must .* got 0.0"),
    (
        lambda: norm(t(2, 3), momentum=1.5),
        ValueError,
        r"batch_norm: momentum must .* got 1.5",
    ),
    (
        lambda: norm(t(2, 3), activation="tanh"),
        ValueError,
        r"batch_norm: activation must .* got 'tanh'",
    ),
    (
        lambda: norm(t(0, 3)),
        ValueError,
        r"batch_norm: x must .* got shape \(0, 3\)",
    ),
    (
        lambda: norm(t(2, 3), residual=t(3)),
        ValueError,
        r"batch_norm: residual must .* got \(3,\)",
    ),
    (
        lambda: F.batch_norm_of_sum(t(2, 3), t(2, 3, dtype="float16"), t(3), t(3), t(3), t(3), True),
        TypeError,
        r"batch_norm_of_sum: addend must .* got float16",
    ),
    (
        lambda: F.batch_norm_of_cat(t(2, 3), t(3, 2), t(5), t(5), t(5), t(5), True),
        ValueError,
        r"batch_norm_of_cat: joined must be of shape \(2, 3\) but for the last axis, got \(3, 2\)",
    ),
    (
        lambda: F.batch_norm_of_cat(t(2, 3), t(2, 2), t(3), t(5), t(5), t(5), True),
        ValueError,
        r"batch_norm_of_cat: gamma must be of shape \(5,\)",
    ),
    (
        lambda: NORM(t(2, 2), t(2, 2), joined=t(2, 1)),
        ValueError,
        r"BatchNorm2d: joined must .* got both",
    ),
    (
        lambda: NORM(t(2, 3), t(2, 3), addend=t(2, 3)),
        ValueError,
        r"BatchNorm2d: addend must .* got both",
    ),
    (
        lambda: F.layer_norm(t(2, 3), t(2), t(2)),
        ValueError,
        r"layer_norm: gamma must .* got \(2,\)",
    ),
    (
        lambda: F.layer_norm(t(2, 3), t(3), t(3, dtype="float16")),
        TypeError,
        r"layer_norm: beta must .* got float16",
    ),
    (lambda: F.softmax(t(2, 3), axis=2), ValueError, r"softmax: axis must .* got 2"),
    (
        lambda: F.softmax(t(2, 0)),
        ValueError,
        r"softmax: x must .* got shape \(2, 0\)",
    ),
    (lambda: F.log_softmax(t(2), axis="x"), TypeError, r"log_softmax: axis must .* got 'x'"),
    (
        lambda: F.cross_entropy(t(2), ids(0, 1)),
        ValueError,
        r"cross_entropy: logits must .* got \(2,\)",
    ),
    (
        lambda: F.cross_entropy(t(0, 3), ids()),
        ValueError,
        r"cross_entropy: logits must .* got shape \(0, 3\)",
    ),
    (
        lambda: F.cross_entropy(t(2, 3), ids(0, 3)),
        ValueError,
        r"cross_entropy: labels must .* got 3",
    ),
    (
        lambda: F.cross_entropy(t(2, 3), ids(-1, 0)),
        ValueError,
        r"cross_entropy: labels must .* got -1",
    ),
    (
        lambda: F.cross_entropy(t(2, 3), ids(0)),
        ValueError,
        r"cross_entropy: labels must .* got \(1,\)",
    ),
    (
        lambda: F.cross_entropy(t(2, 3), t(2)),
        TypeError,
        r"cross_entropy: labels must .* got float32",
    ),
    (
        lambda: F.cross_entropy(t(2, 3), [0, 1]),
        TypeError,
        r"cross_entropy: labels must .* got list",
    ),
    (
        lambda: F.max_pool2d(t(1, 2, 2, 1), 3),
        ValueError,
        r"max_pool2d: the padded image must .* got 2x2 from an image of 2x2",
    ),
    (
        lambda: F.avg_pool2d(t(2, 2), 2),
        ValueError,
        r"avg_pool2d: x must .* got \(2, 2\)",
    ),
    (lambda: F.max_pool2d(t(1, 4, 4, 1), 0), ValueError, r"max_pool2d: size must .* got 0"),
    (
        lambda: F.avg_pool2d(t(1, 4, 4, 1), 2, padding=2),
        ValueError,
        r"avg_pool2d: padding must .* got 2",
    ),
    (
        lambda: F.global_avg_pool2d(t(2, 3)),
        ValueError,
        r"global_avg_pool2d: x must .* got \(2, 3\)",
    ),
    (
        lambda: F.dropout(t(2), 1.0, True),
        ValueError,
        r"dropout: p must .* got 1.0",
    ),
    (
        lambda: F.dropout(t(2), float("nan"), True),
        ValueError,
        r"dropout: p must .* got nan",
    ),
    (lambda: F.embedding(ids(2), t(2, 4)), ValueError, r"embedding: ids must .* got 2"),
    (lambda: F.embedding(ids(0), t(2)), ValueError, r"embedding: table must .* got \(2,\)"),
    (
        lambda: F.attention(t(1, 2, 3), t(1, 2, 3), t(1, 2, 3)),
        ValueError,
        r"attention: q must .* got \(1, 2, 3\)",
    ),
    (
        lambda: F.attention(t(1, 2, 3, 4), t(1, 2, 3, 5), t(1, 2, 3, 5)),
        ValueError,
        r"attention: q, k and v must .* got \(1, 2, 3, 4\), \(1, 2, 3, 5\) and \(1, 2, 3, 5\)",
    ),
    (
        lambda: F.attention(t(1, 1, 2, 4), t(1, 1, 3, 4), t(1, 1, 3, 4), causal=True),
        ValueError,
        r"attention: causal must .* got 3 and 2",
    ),
    (lambda: F.cat([]), ValueError, r"cat: tensors must .* got none"),
    (
        lambda: F.cat([t(1, 2), t(1, 3)], 0),
        ValueError,
        r"cat: tensors\[1\] must .* got \(1, 3\)",
    ),
    (
        lambda: F.cat([t(1), t(1, dtype="float16")]),
        TypeError,
        r"cat: tensors\[1\] must .* got float16",
    ),
    (lambda: F.pad2d(t(2, 2), 1), ValueError, r"pad2d: x must .* got \(2, 2\)"),
    (lambda: F.pad2d(t(1, 2, 2, 1), -1), ValueError, r"pad2d: pads must .* got -1"),
    (lambda: F.pad2d(t(1, 2, 2, 1), (1, 1, 1)), TypeError, r"pad2d: pads must .* got \(1, 1, 1\)"),
    (lambda: F.flatten(t()), ValueError, r"flatten: x must .* got \(\)"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), CASES, ids=[f"{i}-{c[2][:30]}" for i, c in enumerate(CASES)]
)
def test_wrong_arguments(
    monkeypatch: pytest.MonkeyPatch, call: Callable, error: type[Exception], message: str
) -> None:
    class NoKernel:
        recording = False

        def to_numpy(self, x: np.ndarray) -> np.ndarray:
            return x

        def __getattr__(self, name: str) -> None:
            raise AssertionError(f"the kernel {name} ran")

    monkeypatch.setattr(backends, "get", lambda device: NoKernel())
    with pytest.raises(error) as caught:
        call()
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    y = F.conv2d(t(1, size, size, 1), t(1, kernel, kernel, 1), stride=stride, padding="same")
    assert y.shape[1:3] == (-(-size // stride),) * 2
    # the window at the first output starts `before` pixels outside, and `before` is the smaller half
    total = max((y.shape[1] - 1) * stride + kernel - size, 0)
    inside = min(kernel - total // 2, size)
    assert y.numpy()[0, 0, 0, 0] == inside**2
