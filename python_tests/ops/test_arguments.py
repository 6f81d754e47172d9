"""Wrong shapes, dtypes and options: an error that names the argument, before any kernel runs."""

# mypy: disable-error-code="arg-type, misc"
# Wrong arguments are what is tested here.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F


def x(*shape: int, dtype: str = "float32") -> Any:
    return fe.tensor(np.ones(shape), dtype=dtype, device="reference")


def ids(*values: int) -> Any:
    return fe.tensor(np.array(values, np.int64), device="reference")


def _norm(*, of: Any = None, **changed: Any) -> Callable[[], Any]:
    arguments = {name: x(3) for name in ("gamma", "beta", "running_mean", "running_var")}
    return lambda: F.batch_norm(x(4, 3) if of is None else of, **{**arguments, "training": True, **changed})


VALUE, TYPE = ValueError, TypeError
WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "linear-x-shape": (lambda: F.linear(x(2, 3), x(4, 5)), VALUE, r"x must .* got"),
    "linear-weight-rank": (lambda: F.linear(x(2, 3), x(3)), VALUE, "weight"),
    "linear-bias": (lambda: F.linear(x(2, 3), x(4, 3), x(3)), VALUE, "bias"),
    "linear-dtype": (lambda: F.linear(x(2, 3), x(4, 3, dtype="float16")), TYPE, "weight.*astype"),
    "linear-array": (lambda: F.linear(np.ones((2, 3)), x(4, 3)), TYPE, r"x must .* got ndarray"),
    "linear-int": (lambda: F.linear(ids(1, 2), x(4, 2)), TYPE, r"x must .* got int64"),
    "matmul-inner": (
        lambda: F.matmul(x(2, 3), x(2, 3)),
        VALUE,
        r"matmul: b must .* got shapes \(2, 3\) and \(2, 3\)",
    ),
    "matmul-batch": (lambda: F.matmul(x(2, 3, 4), x(3, 4, 5)), VALUE, "batch axes"),
    "matmul-scalar": (lambda: F.matmul(x(), x(2)), VALUE, "matmul"),
    "conv-rank": (lambda: F.conv2d(x(4, 4, 3), x(2, 3, 3, 3)), VALUE, r"x must .* got"),
    "conv-weight-rank": (
        lambda: F.conv2d(x(1, 4, 4, 3), x(2, 3, 3)),
        VALUE,
        r"conv2d: weight must .* got \(2, 3, 3\)",
    ),
    "conv-channels": (
        lambda: F.conv2d(x(1, 4, 4, 1), x(2, 3, 3, 3)),
        VALUE,
        r"conv2d: x must .* got 1",
    ),
    "conv-bias": (lambda: F.conv2d(x(1, 4, 4, 3), x(2, 3, 3, 3), x(3)), VALUE, "bias"),
    "conv-groups": (
        lambda: F.conv2d(x(1, 4, 4, 3), x(2, 3, 3, 3), groups=2),
        VALUE,
        r"conv2d: groups must .* got 2",
    ),
    "conv-groups-0": (
        lambda: F.conv2d(x(1, 4, 4, 3), x(2, 3, 3, 3), groups=0),
        VALUE,
        r"conv2d: groups must .* got 0",
    ),
    "conv-stride-0": (lambda: F.conv2d(x(1, 4, 4, 3), x(2, 3, 3, 3), stride=0), VALUE, "stride"),
    "conv-stride-float": (lambda: F.conv2d(x(1, 4, 4, 3), x(2, 3, 3, 3), stride=1.5), TYPE, "stride"),
    "conv-padding": (lambda: F.conv2d(x(1, 4, 4, 3), x(2, 3, 3, 3), padding="valid"), VALUE, "padding"),
    "conv-padding-negative": (lambda: F.conv2d(x(1, 4, 4, 3), x(2, 3, 3, 3), padding=-1), VALUE, "padding"),
    "conv-kernel-too-big": (
        lambda: F.conv2d(x(1, 2, 2, 3), x(2, 3, 3, 3)),
        VALUE,
        r"padded image must .* got",
    ),
    "conv-dtype": (
        lambda: F.conv2d(x(1, 4, 4, 3, dtype="float16"), x(2, 3, 3, 3)),
        TYPE,
        r"conv2d: weight must .* got float32",
    ),
    "batch-norm-gamma": (_norm(gamma=x(4)), VALUE, r"batch_norm: gamma must .* got \(4,\)"),
    "batch-norm-running": (
        _norm(running_var=x(3, 1)),
        VALUE,
        r"batch_norm: running_var must .* got \(3, 1\)",
    ),
    "batch-norm-dtype": (_norm(beta=x(3, dtype="float16")), TYPE, "beta"),
    "batch-norm-mixed": (_norm(of=x(4, 3, dtype="float64")), TYPE, "gamma"),
    "batch-norm-eps": (_norm(eps=0.0), VALUE, r"batch_norm: eps must .* got 0.0"),
    "batch-norm-eps-nan": (_norm(eps=float("nan")), VALUE, r"batch_norm: eps must .* got nan"),
    "batch-norm-momentum": (_norm(momentum=1.5), VALUE, r"batch_norm: momentum must .* got 1.5"),
    "batch-norm-activation": (_norm(activation="gelu"), VALUE, r"batch_norm: activation must .* got 'gelu'"),
    "batch-norm-empty": (_norm(of=x(0, 3)), VALUE, r"x must .* got"),
    "layer-norm-gamma": (lambda: F.layer_norm(x(2, 3), x(2), x(3)), VALUE, "gamma"),
    "layer-norm-beta": (lambda: F.layer_norm(x(2, 3), x(3), x(3, dtype="float16")), TYPE, "beta"),
    "layer-norm-eps": (lambda: F.layer_norm(x(2, 3), x(3), x(3), eps=-1.0), VALUE, "eps"),
    "softmax-axis": (lambda: F.softmax(x(2, 3), axis=2), VALUE, r"axis must .* got 2"),
    "softmax-axis-type": (lambda: F.softmax(x(2, 3), axis=0.5), TYPE, r"softmax: axis must .* got 0.5"),
    "softmax-empty": (lambda: F.softmax(x(2, 0)), VALUE, r"x must .* got"),
    "log-softmax-axis": (lambda: F.log_softmax(x(3), axis=-2), VALUE, r"log_softmax: axis must .* got -2"),
    "cross-entropy-labels-dtype": (
        lambda: F.cross_entropy(x(2, 3), x(2)),
        TYPE,
        r"cross_entropy: labels must .* got float32",
    ),
    "cross-entropy-labels-count": (
        lambda: F.cross_entropy(x(2, 3), ids(0, 1, 2)),
        VALUE,
        r"cross_entropy: labels must .* got \(3,\)",
    ),
    "cross-entropy-labels-range": (
        lambda: F.cross_entropy(x(2, 3), ids(0, 3)),
        VALUE,
        r"cross_entropy: labels must .* got 3",
    ),
    "cross-entropy-labels-negative": (
        lambda: F.cross_entropy(x(2, 3), ids(0, -1)),
        VALUE,
        r"cross_entropy: labels must .* got -1",
    ),
    "cross-entropy-rank": (lambda: F.cross_entropy(x(3), ids(0)), VALUE, r"logits must .* got"),
    "cross-entropy-empty": (lambda: F.cross_entropy(x(0, 3), ids()), VALUE, r"logits must .* got"),
    "max-pool-rank": (lambda: F.max_pool2d(x(4, 4, 1), 2), VALUE, r"x must .* got"),
    "max-pool-size": (lambda: F.max_pool2d(x(1, 4, 4, 1), 0), VALUE, r"max_pool2d: size must .* got 0"),
    "max-pool-too-big": (lambda: F.max_pool2d(x(1, 4, 4, 1), 5), VALUE, r"padded image must .* got"),
    "max-pool-padding": (
        lambda: F.max_pool2d(x(1, 4, 4, 1), 2, padding=2),
        VALUE,
        r"max_pool2d: padding must .* got 2",
    ),
    "avg-pool-stride": (
        lambda: F.avg_pool2d(x(1, 4, 4, 1), 2, stride=-1),
        VALUE,
        r"avg_pool2d: stride must .* got -1",
    ),
    "global-pool-rank": (lambda: F.global_avg_pool2d(x(4, 4)), VALUE, r"x must .* got"),
    "global-pool-empty": (lambda: F.global_avg_pool2d(x(1, 0, 4, 2)), VALUE, r"x must .* got"),
    "dropout-p": (lambda: F.dropout(x(3), 1.0, True), VALUE, r"dropout: p must .* got 1.0"),
    "dropout-p-nan": (lambda: F.dropout(x(3), float("nan"), True), VALUE, r"dropout: p must .* got nan"),
    "embedding-ids": (lambda: F.embedding(x(2), x(3, 4)), TYPE, r"embedding: ids must .* got float32"),
    "embedding-range": (lambda: F.embedding(ids(3), x(3, 4)), VALUE, r"embedding: ids must .* got 3"),
    "embedding-rank": (lambda: F.embedding(ids(0), x(3)), VALUE, r"embedding: table must .* got \(3,\)"),
    "attention-rank": (
        lambda: F.attention(x(2, 3, 4), x(1, 2, 3, 4), x(1, 2, 3, 4)),
        VALUE,
        r"q.* must .* got",
    ),
    "attention-heads": (
        lambda: F.attention(x(1, 2, 3, 4), x(1, 1, 3, 4), x(1, 1, 3, 4)),
        VALUE,
        r"q.* must .* got",
    ),
    "attention-causal": (
        lambda: F.attention(x(1, 1, 2, 4), *[x(1, 1, 3, 4)] * 2, causal=True),
        VALUE,
        "causal",
    ),
    "cross-entropy-ignored": (
        lambda: F.cross_entropy(x(2, 3), ids(1, 1), ignore_index=1),
        VALUE,
        r"cross_entropy: labels must .* got 1 only",
    ),
    "cross-entropy-ignored-range": (
        lambda: F.cross_entropy(x(2, 3), ids(-1, -2), ignore_index=-1),
        VALUE,
        r"cross_entropy: labels must .* got -2",
    ),
    "cross-entropy-smoothing": (
        lambda: F.cross_entropy(x(2, 3), ids(1, 1), label_smoothing=1.5),
        VALUE,
        r"cross_entropy: label_smoothing must .* got 1.5",
    ),
    "cross-entropy-ignored-type": (
        lambda: F.cross_entropy(x(2, 3), ids(1, 1), ignore_index=0.5),
        TYPE,
        r"cross_entropy: ignore_index must .* got 0.5",
    ),
    "attention-lengths-shape": (
        lambda: F.attention(*[x(2, 1, 3, 4)] * 3, key_lengths=ids(1)),
        VALUE,
        r"attention: key_lengths must .* got \(1,\)",
    ),
    "attention-lengths-range": (
        lambda: F.attention(*[x(1, 1, 3, 4)] * 3, key_lengths=ids(4)),
        VALUE,
        r"attention: key_lengths must .* got 4",
    ),
    "attention-lengths-dtype": (
        lambda: F.attention(*[x(1, 1, 3, 4)] * 3, key_lengths=x(1)),
        TYPE,
        r"attention: key_lengths must .* got float32",
    ),
    "attention-dtype": (
        lambda: F.attention(x(1, 1, 2, 4, dtype="float16"), *[x(1, 1, 2, 4)] * 2),
        TYPE,
        "q is",
    ),
    "cat-empty": (lambda: F.cat([], 0), VALUE, "cat"),
    "cat-shape": (lambda: F.cat([x(2, 3), x(3, 3)], 1), VALUE, r"tensors\[1\]"),
    "cat-dtype": (lambda: F.cat([x(2), x(2, dtype="float16")], 0), TYPE, r"tensors\[1\]"),
    "cat-axis": (lambda: F.cat([x(2)], 1), VALUE, r"cat: axis must .* got 1"),
    "pad-negative": (lambda: F.pad2d(x(1, 2, 2, 1), -1), VALUE, "pads"),
    "pad-rank": (lambda: F.pad2d(x(2, 2), 1), VALUE, r"x must .* got"),
    "pad-channels": (lambda: F.pad_channels(x(2, 2), -1, 0), VALUE, "before"),
    "flatten-scalar": (lambda: F.flatten(x()), VALUE, r"x must .* got"),
    "reshape": (lambda: x(2, 3).reshape(4), VALUE, "shape"),
    "transpose": (lambda: x(2, 3).transpose(0, 0), VALUE, "axes"),
    "sum-axis": (lambda: x(2, 3).sum(axis=2), VALUE, r"axis must .* got 2"),
    "sum-twice": (lambda: x(2, 3).sum(axis=(0, -2)), VALUE, "axis"),
    "mean-empty": (lambda: x(0).mean(), VALUE, r"x must .* got"),
    "max-empty": (lambda: x(2, 0).max(axis=1), VALUE, r"x must .* got"),
    "add-shapes": (lambda: x(2, 3) + x(2), VALUE, "broadcast"),
    "add-dtypes": (lambda: x(2) + x(2, dtype="float16"), TYPE, r"add: b must .* got float16"),
    "relu-int": (lambda: F.relu(ids(1)), TYPE, r"x must .* got int64"),
    "gelu-array": (lambda: F.gelu(np.ones(2)), TYPE, r"x must .* got ndarray"),
    "astype": (lambda: x(2).astype("half"), VALUE, "'half'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_argument(name: str) -> None:
    call, error, message = WRONG[name]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_devices_do_not_mix(cpu: Any) -> None:
    here, there = x(2), fe.tensor(np.ones(2, np.float32), device="cpu")
    for call in (lambda: here + there, lambda: F.cat([here, there], 0), lambda: F.matmul(here, there)):
        with pytest.raises(ValueError, match=r"must be on .reference. .* got .cpu."):
            call()


def test_running_statistics_stay_after_wrong_arguments() -> None:
    running = [x(3), x(3)]
    with pytest.raises(ValueError, match="gamma"):
        F.batch_norm(x(4, 3) * 5, x(2), x(3), *running, training=True)
    assert all((r.numpy() == 1).all() for r in running)
