"""Softmax and the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .case import Kernel, pick, read, written


def softmax(size: str) -> Iterator[Kernel]:
    shape = pick(size, (7, 25), (25600, 25), (1 << 17, 1024))
    count = math.prod(shape)
    yield Kernel(
        "softmax",
        "softmax",
        {"x": read(shape), "y": written(shape)},
        ("y",),
        5,
        count,
        "element",
        lambda b, a, s: lambda: b.softmax(**a, axis=-1, acc=s.acc),
    )
    yield Kernel(
        "softmax",
        "softmax_backward",
        {"y": read(shape), "dy": read(shape), "dx": written(shape)},
        ("dx",),
        4,
        count,
        "element",
        lambda b, a, s: lambda: b.softmax_backward(**a, axis=-1, acc=s.acc),
    )


def cross_entropy(size: str) -> Iterator[Kernel]:
    rows, classes = pick(size, (9, 10), (256, 10), (1 << 17, 1024))
    logits = {
        "logits": read((rows, classes)),
        "labels": read((rows,), kind="int64", limit=classes),
    }
    yield Kernel(
        "softmax + cross-entropy",
        "cross_entropy_forward",
        {**logits, "loss": written(())},
        ("loss",),
        4,
        rows * classes,
        "logit",
        lambda b, a, s: lambda: b.cross_entropy_forward(**a, acc=s.acc),
    )
    yield Kernel(
        "softmax + cross-entropy",
        "cross_entropy_backward",
        {**logits, "dy": read(()), "dlogits": written((rows, classes))},
        ("dlogits",),
        7,
        rows * classes,
        "logit",
        lambda b, a, s: lambda: b.cross_entropy_backward(**a, acc=s.acc),
    )
