"""Reductions, and rows that are taken."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .case import Kernel, features, pick, read, written


def reductions(size: str) -> Iterator[Kernel]:
    shape = features(size)
    count = math.prod(shape)
    yield Kernel(
        "reductions",
        "sum over all but channels",
        {"x": read(shape), "y": written((1, 1, 1, shape[-1]))},
        ("y",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.sum(a["x"], (0, 1, 2), s.acc),
    )
    yield Kernel(
        "reductions",
        "sum of everything",
        {"x": read(shape), "y": written((1, 1, 1, 1))},
        ("y",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.sum(a["x"], (0, 1, 2, 3), s.acc),
    )
    yield Kernel(
        "reductions",
        "max over channels",
        {"x": read(shape), "y": written((*shape[:-1], 1))},
        ("y",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.max(a["x"], (3,)),
    )
    yield Kernel(
        "reductions",
        "all_finite",
        {"x": read(shape)},
        (),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.all_finite([a["x"]]),
    )


def rows(size: str) -> Iterator[Kernel]:
    rows, width = pick(size, (6, 40), (256, 3072), (1 << 16, 2048))
    yield Kernel(
        "rows",
        "gather a batch",
        {
            "data": read((rows, width)),
            "index": read((rows,), kind="int64", limit=rows),
            "y": written((rows, width)),
        },
        ("y",),
        0,
        rows * width,
        "element",
        lambda b, a, s: lambda: b.gather(a["data"], a["index"]),
    )
