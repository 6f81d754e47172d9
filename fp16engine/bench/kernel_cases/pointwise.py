"""Elementwise functions, dropout and casts."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .case import Kernel, Prepare, features, read, written


def _unary(op: str) -> Prepare:
    return lambda b, a, s: lambda: b.unary(op, a["x"])


def elementwise(size: str) -> Iterator[Kernel]:
    shape = features(size)
    count = math.prod(shape)
    for op, flops in (("relu", 1), ("gelu", 4), ("tanh", 1)):
        yield Kernel(
            "elementwise",
            op,
            {"x": read(shape), "y": written(shape)},
            ("y",),
            flops,
            count,
            "element",
            _unary(op),
        )
    yield Kernel(
        "elementwise",
        "relu_backward",
        {"y": read(shape), "dy": read(shape), "dx": written(shape)},
        ("dx",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.unary_backward("relu", None, a["y"], a["dy"]),
    )
    yield Kernel(
        "elementwise",
        "relu_backward with another gradient",
        {"y": read(shape), "dy": read(shape), "pending_grad": read(shape), "dx": written(shape)},
        ("dx",),
        2,
        count,
        "element",
        lambda b, a, s: lambda: b.relu_add_backward(a["y"], a["dy"], a["pending_grad"]),
    )
    yield Kernel(
        "elementwise",
        "relu_backward with bias sums",
        {"y": read(shape), "dy": read(shape), "dx": written(shape), "db": written(shape[-1:])},
        ("dx", "db"),
        2,
        count,
        "element",
        lambda b, a, s: lambda: b.relu_bias_backward(a["y"], a["dy"], s.acc),
    )
    yield Kernel(
        "elementwise",
        "gelu_backward",
        {"x": read(shape), "dy": read(shape), "dx": written(shape)},
        ("dx",),
        8,
        count,
        "element",
        lambda b, a, s: lambda: b.unary_backward("gelu", a["x"], None, a["dy"]),
    )
    yield Kernel(
        "elementwise",
        "add",
        {"a": read(shape), "b": read(shape), "y": written(shape)},
        ("y",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.binary("add", a["a"], a["b"]),
    )
    yield Kernel(
        "elementwise",
        "add bias",
        {"a": read(shape), "b": read(shape[-1:]), "y": written(shape)},
        ("y",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.binary("add", a["a"], a["b"]),
    )


def dropout(size: str) -> Iterator[Kernel]:
    shape = features(size)
    yield Kernel(
        "dropout",
        "dropout",
        {"x": read(shape), "y": written(shape)},
        ("y",),
        2,
        math.prod(shape),
        "element, plus Philox",
        lambda b, a, s: lambda: b.dropout(a["x"], 0.1, 7, 0),
    )


def _cast_to(dtype: str) -> Prepare:
    return lambda b, a, s: lambda: b.cast(a["x"], dtype)


def cast(size: str) -> Iterator[Kernel]:
    shape = features(size)
    for source, target in (("float16", "float32"), ("float32", "float16")):
        yield Kernel(
            "cast",
            f"cast {source} to {target}",
            {"x": read(shape, kind=source), "y": written(shape, kind=target)},
            ("y",),
            1,
            math.prod(shape),
            "element",
            _cast_to(target),
        )
