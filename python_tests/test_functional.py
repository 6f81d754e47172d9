"""Wrong arguments of operations: one sentence that names the argument, before any kernel runs."""

# mypy: disable-error-code="arg-type, call-arg"
# Wrong arguments are tested here too.

from __future__ import annotations

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
        "relu: x is a ndarray, a Tensor is expected (fe.tensor makes one)",
    ),
    (
        lambda: F.gelu(ids(1)),
        TypeError,
        "gelu: x is int64, a floating-point tensor is expected; cast with .astype",
    ),
    (lambda: F.linear(t(2, 3), t(4, 2)), ValueError, "linear: x has shape (2, 3), (..., 2) is expected"),
    (lambda: F.linear(t(2, 3), t(3)), ValueError, "linear: weight has shape (3,), (out, in) is expected"),
    (
        lambda: F.linear(t(2, 3), t(4, 3), t(3)),
        ValueError,
        "linear: bias has shape (3,), (4,) is expected (one per output)",
    ),
    (
        lambda: F.linear(t(2, 3), t(4, 3), t(4, dtype="float16")),
        TypeError,
        "linear: x is float32 and bias is float16; cast one of them with .astype",
    ),
    (
        lambda: F.conv2d(t(2, 5, 5), t(1, 3, 3, 5)),
        ValueError,
        "conv2d: x has shape (2, 5, 5), (N, H, W, C) is",
    ),
    (
        lambda: F.conv2d(t(2, 5, 5, 3), t(3, 3, 3)),
        ValueError,
        "conv2d: weight has shape (3, 3, 3), (out, kh, kw",
    ),
    (lambda: F.conv2d(t(2, 5, 5, 3), t(4, 3, 3, 1)), ValueError, "conv2d: x has 3 channels, 1 are expected"),
    (
        lambda: F.conv2d(t(2, 5, 5, 3), t(4, 3, 3, 1), groups=2),
        ValueError,
        "conv2d: groups is 2, a divisor of 3",
    ),
    (
        lambda: F.conv2d(t(2, 5, 5, 3), t(4, 3, 3, 3), groups=0),
        ValueError,
        "conv2d: groups is 0, an integer >= 1",
    ),
    (
        lambda: F.conv2d(t(2, 5, 5, 3), t(4, 7, 7, 3)),
        ValueError,
        "conv2d: a window of 7x7 does not fit into an image of 5x5 (padded: 5x5)",
    ),
    (
        lambda: F.conv2d(t(1, 0, 5, 1), t(1, 1, 1, 1), padding="same"),
        ValueError,
        "does not fit into an image of 0x5",
    ),
    (
        lambda: F.conv2d(t(1, 5, 5, 1), t(1, 3, 3, 1), padding="valid"),
        ValueError,
        "conv2d: padding is 'valid', 'same', an integer or a pair of integers is expected",
    ),
    (
        lambda: F.conv2d(t(1, 5, 5, 1), t(1, 3, 3, 1), padding=-1),
        ValueError,
        "conv2d: padding is -1, values >= 0",
    ),
    (
        lambda: F.conv2d(t(1, 5, 5, 1), t(1, 3, 3, 1), stride=0),
        ValueError,
        "conv2d: stride is 0, values >= 1",
    ),
    (
        lambda: F.conv2d(t(1, 5, 5, 1), t(1, 3, 3, 1), stride=1.5),
        TypeError,
        "conv2d: stride is 1.5, an integer or",
    ),
    (
        lambda: norm(t(2, 4)),
        ValueError,
        "batch_norm: gamma has shape (3,), (4,) is expected (one per channel",
    ),
    (
        lambda: norm(t(2, 3), dtype="float16"),
        TypeError,
        "batch_norm: x is float32 and gamma float16; gamma in float32 is expected",
    ),
    (lambda: norm(t(2, 3), eps=0.0), ValueError, "batch_norm: eps is 0.0, a finite number > 0 is expected"),
    (
        lambda: norm(t(2, 3), momentum=1.5),
        ValueError,
        "batch_norm: momentum is 1.5, a number in [0, 1] is expected",
    ),
    (
        lambda: norm(t(2, 3), activation="tanh"),
        ValueError,
        "batch_norm: activation is 'tanh', None or 'relu'",
    ),
    (
        lambda: norm(t(0, 3)),
        ValueError,
        "batch_norm: x has shape (0, 3), at least one value per channel is expected",
    ),
    (
        lambda: norm(t(2, 3), residual=t(3)),
        ValueError,
        "batch_norm: residual has shape (3,), (2, 3) is expected as of x",
    ),
    (
        lambda: F.batch_norm_of_sum(t(2, 3), t(2, 3, dtype="float16"), t(3), t(3), t(3), t(3), True),
        TypeError,
        "batch_norm_of_sum: x is float32 and addend is float16",
    ),
    (
        lambda: NORM(t(2, 3), t(2, 3), addend=t(2, 3)),
        ValueError,
        "BatchNorm2d: residual and addend given, one of them is expected",
    ),
    (
        lambda: F.layer_norm(t(2, 3), t(2), t(2)),
        ValueError,
        "layer_norm: gamma has shape (2,), (3,) is expected",
    ),
    (
        lambda: F.layer_norm(t(2, 3), t(3), t(3, dtype="float16")),
        TypeError,
        "layer_norm: gamma is float32 and beta is float16",
    ),
    (lambda: F.softmax(t(2, 3), axis=2), ValueError, "softmax: axis is 2, a tensor with 2 axes has -2 to 1"),
    (
        lambda: F.softmax(t(2, 0)),
        ValueError,
        "softmax: x has shape (2, 0), at least one element along axis 1",
    ),
    (lambda: F.log_softmax(t(2), axis="x"), TypeError, "log_softmax: axis is 'x', an integer is expected"),
    (
        lambda: F.cross_entropy(t(2), ids(0, 1)),
        ValueError,
        "cross_entropy: logits has shape (2,), (N, K) is expected",
    ),
    (
        lambda: F.cross_entropy(t(0, 3), ids()),
        ValueError,
        "cross_entropy: logits has shape (0, 3), at least one",
    ),
    (
        lambda: F.cross_entropy(t(2, 3), ids(0, 3)),
        ValueError,
        "cross_entropy: labels holds 3, classes 0 to 2 are",
    ),
    (
        lambda: F.cross_entropy(t(2, 3), ids(-1, 0)),
        ValueError,
        "cross_entropy: labels holds -1, classes 0 to 2",
    ),
    (
        lambda: F.cross_entropy(t(2, 3), ids(0)),
        ValueError,
        "cross_entropy: labels has shape (1,), (2,) is expected",
    ),
    (
        lambda: F.cross_entropy(t(2, 3), t(2)),
        TypeError,
        "cross_entropy: labels is float32, int64 is expected",
    ),
    (
        lambda: F.cross_entropy(t(2, 3), [0, 1]),
        TypeError,
        "cross_entropy: labels is a list, an int64 Tensor is",
    ),
    (
        lambda: F.max_pool2d(t(1, 2, 2, 1), 3),
        ValueError,
        "max_pool2d: a window of 3x3 does not fit into an image of",
    ),
    (
        lambda: F.avg_pool2d(t(2, 2), 2),
        ValueError,
        "avg_pool2d: x has shape (2, 2), (N, H, W, C) is expected",
    ),
    (lambda: F.max_pool2d(t(1, 4, 4, 1), 0), ValueError, "max_pool2d: size is 0, values >= 1 are expected"),
    (
        lambda: F.avg_pool2d(t(1, 4, 4, 1), 2, padding=2),
        ValueError,
        "avg_pool2d: padding is 2, less than the size (2, 2) is expected, else a window is empty",
    ),
    (
        lambda: F.global_avg_pool2d(t(2, 3)),
        ValueError,
        "global_avg_pool2d: x has shape (2, 3), (N, H, W, C) is",
    ),
    (
        lambda: F.dropout(t(2), 1.0, True),
        ValueError,
        "dropout: p is 1.0, a probability in [0, 1) is expected",
    ),
    (
        lambda: F.dropout(t(2), float("nan"), True),
        ValueError,
        "dropout: p is nan, a probability in [0, 1) is",
    ),
    (lambda: F.embedding(ids(2), t(2, 4)), ValueError, "embedding: ids holds 2, rows 0 to 1 are expected"),
    (lambda: F.embedding(ids(0), t(2)), ValueError, "embedding: table has shape (2,), (R, D) is expected"),
    (
        lambda: F.attention(t(1, 2, 3), t(1, 2, 3), t(1, 2, 3)),
        ValueError,
        "attention: q has shape (1, 2, 3), (B, H",
    ),
    (
        lambda: F.attention(t(1, 2, 3, 4), t(1, 2, 3, 5), t(1, 2, 3, 5)),
        ValueError,
        "attention: q has shape (1, 2, 3, 4), k (1, 2, 3, 5), v (1, 2, 3, 5); equal B, H, D, and k like v",
    ),
    (
        lambda: F.attention(t(1, 1, 2, 4), t(1, 1, 3, 4), t(1, 1, 3, 4), causal=True),
        ValueError,
        "attention: causal with 2 queries and 3 keys given, equal is expected",
    ),
    (lambda: F.cat([]), ValueError, "cat: an empty list given, at least one tensor is expected"),
    (
        lambda: F.cat([t(1, 2), t(1, 3)], 0),
        ValueError,
        "cat: tensors[0] has shape (1, 2) and tensors[1] (1, 3); only",
    ),
    (
        lambda: F.cat([t(1), t(1, dtype="float16")]),
        TypeError,
        "cat: tensors[0] is float32 and tensors[1] is float16",
    ),
    (lambda: F.pad2d(t(2, 2), 1), ValueError, "pad2d: x has shape (2, 2), (N, H, W, C) is expected"),
    (lambda: F.pad2d(t(1, 2, 2, 1), -1), ValueError, "pad2d: pads is -1, values >= 0 are expected"),
    (lambda: F.pad2d(t(1, 2, 2, 1), (1, 1, 1)), TypeError, "pad2d: pads is (1, 1, 1), an integer or a pair"),
    (lambda: F.flatten(t()), ValueError, "flatten: x has shape (), (N, ...) is expected"),
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
    assert message in str(caught.value)
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
