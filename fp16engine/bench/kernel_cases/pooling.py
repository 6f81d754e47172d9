"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .case import Kernel, features, pick, read, written


def pooling(size: str) -> Iterator[Kernel]:
    shape = n, h, w, c = features(size)
    pooled = (n, h // 2, w // 2, c)
    count = math.prod(pooled)
    window = ((2, 2), (2, 2), (0, 0, 0, 0))
    yield Kernel(
        "pooling",
        "max_pool_forward 2x2",
        {"x": read(shape), "y": written(pooled), "index": written(pooled, kind="uint8")},
        ("y", "index"),
        3,
        count,
        "output",
        lambda b, a, s: lambda: b.max_pool_forward(a["x"], *window),
    )
    yield Kernel(
        "pooling",
        "max_pool_backward 2x2",
        {"index": read(pooled, kind="uint8", limit=4), "dy": read(pooled), "dx": written(shape)},
        ("dx",),
        4,
        count,
        "output",
        lambda b, a, s: lambda: b.max_pool_backward(a["index"], a["dy"], shape, *window, s.acc),
    )
    yield Kernel(
        "pooling",
        "avg_pool_forward 2x2",
        {"x": read(shape), "y": written(pooled)},
        ("y",),
        5,
        count,
        "output",
        lambda b, a, s: lambda: b.avg_pool_forward(a["x"], *window, s.acc),
    )
    yield Kernel(
        "pooling",
        "avg_pool_backward 2x2",
        {"dy": read(pooled), "dx": written(shape)},
        ("dx",),
        5,
        count,
        "output",
        lambda b, a, s: lambda: b.avg_pool_backward(a["dy"], shape, *window, s.acc),
    )
    deep = pick(size, (2, 4, 4, 8), (256, 8, 8, 64), (32768, 8, 8, 64))
    yield Kernel(
        "pooling",
        "global average",
        {"x": read(deep), "y": written((deep[0], 1, 1, deep[3]))},
        ("y",),
        1,
        math.prod(deep),
        "element",
        lambda b, a, s: lambda: b.mean(a["x"], (1, 2), s.acc),
    )
