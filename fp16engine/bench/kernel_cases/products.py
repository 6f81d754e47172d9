"""Dot products: convolutions and dense layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .case import Kernel, Setting, pick, read, written


def _convolution(
    family: str, label: str, x: tuple[int, int, int, int], k: int, groups: int
) -> Iterator[Kernel]:
    n, h, w, c = x
    weight, y = (k, 3, 3, c // groups), (n, h, w, k)
    geometry = ((1, 1), (1, 1, 1, 1), groups)
    terms = 9 * (c // groups)

    def how(backend: Any, setting: Setting) -> dict[str, str]:
        return {"algorithm": setting.precision.convolution_by(backend, weight, (1, 1), groups)}

    shared: dict[str, Any] = {
        "per_item": 2 * terms,
        "items": math.prod(y),
        "item": "output",
        "dot_products": groups == 1,
    }
    yield Kernel(
        family,
        f"{label} forward",
        {"x": read(x), "w": read(weight), "b": read((k,)), "y": written(y)},
        ("y",),
        prepare=lambda b, a, s: (
            lambda: b.conv2d_forward(a["x"], a["w"], a["b"], *geometry, s.acc, **how(b, s))
        ),
        **shared,
    )
    operands = {"x": read(x), "w": read(weight), "dy": read(y)}
    yield Kernel(
        family,
        f"{label} data gradient",
        {**operands, "x": read(x, 0), "dx": written(x)},
        ("dx",),
        prepare=lambda b, a, s: (
            lambda: b.conv2d_backward(
                a["x"], a["w"], a["dy"], *geometry, (True, False, False), s.acc, **how(b, s)
            )[0]
        ),
        **shared,
    )
    yield Kernel(
        family,
        f"{label} weight gradient",
        {**operands, "w": read(weight, 0), "dw": written(weight)},
        ("dw",),
        prepare=lambda b, a, s: (
            lambda: b.conv2d_backward(
                a["x"], a["w"], a["dy"], *geometry, (False, True, False), s.acc, **how(b, s)
            )[1]
        ),
        **shared,
    )


def depthwise(size: str) -> Iterator[Kernel]:
    x = pick(size, (2, 5, 5, 8), (256, 16, 16, 96), (5632, 16, 16, 96))
    yield from _convolution("depthwise convolution", f"depthwise 3x3 of {x[3]}", x, x[3], x[3])


def convolutions(size: str) -> Iterator[Kernel]:
    shapes = pick(
        size,
        (((2, 5, 5, 8), 8),),
        (
            ((256, 32, 32, 16), 16),  # ResNet-56
            ((256, 16, 16, 32), 32),
            ((256, 8, 8, 64), 64),
            ((256, 32, 32, 64), 64),  # VGG-16
            ((256, 8, 8, 256), 256),
            ((256, 4, 4, 512), 512),
        ),
        (((8192, 32, 32, 16), 16), ((2048, 16, 16, 256), 256)),
    )
    for x, k in shapes:
        yield from _convolution("convolution", f"conv 3x3 {x[3]}->{k} at {x[1]}x{x[2]}", x, k, 1)


def products(size: str) -> Iterator[Kernel]:
    for m, n, k in pick(size, ((6, 8, 24),), ((6400, 512, 64), (256, 4096, 4096)), ((8192, 8192, 8192),)):
        yield Kernel(
            "matrix product",
            f"linear ({m}, {k}) ({k}, {n}) + bias",
            {"x": read((m, k)), "w": read((n, k)), "b": read((n,)), "y": written((m, n))},
            ("y",),
            2 * k,
            m * n,
            "output",
            lambda b, a, s: lambda: b.linear_forward(a["x"], a["w"], a["b"], s.acc),
            dot_products=True,
        )
        yield Kernel(
            "matrix product",
            f"linear ({m}, {k}) ({k}, {n}) data gradient",
            {"dy": read((m, n)), "w": read((n, k)), "dx": written((m, k))},
            ("dx",),
            2 * n,
            m * k,
            "output",
            lambda b, a, s: lambda: b.matmul(a["dy"], a["w"], False, False, s.acc),
            dot_products=True,
        )
        yield Kernel(
            "matrix product",
            f"linear ({m}, {k}) ({k}, {n}) weight gradient",
            {"dy": read((m, n)), "x": read((m, k)), "dw": written((n, k))},
            ("dw",),
            2 * m,
            n * k,
            "output",
            lambda b, a, s: lambda: b.matmul(a["dy"], a["x"], True, False, s.acc),
            dot_products=True,
        )
