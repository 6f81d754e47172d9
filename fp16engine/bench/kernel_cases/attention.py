"""Attention."""

from __future__ import annotations

from collections.abc import Iterator

from .case import Kernel, pick, read, written


def attention(size: str) -> Iterator[Kernel]:
    batch, heads, length, width = pick(size, (2, 2, 5, 8), (256, 4, 25, 64), (20992, 4, 25, 64))
    shape, scores = (batch, heads, length, width), (batch, heads, length, length)
    pairs = batch * heads * length * length
    yield Kernel(
        "attention",
        "attention_forward",
        {
            "q": read(shape),
            "k": read(shape),
            "v": read(shape),
            "y": written(shape),
            "probs": written(scores),
        },
        ("y", "probs"),
        4 * width + 5,
        pairs,
        f"pair of positions, heads of {width}",
        lambda b, a, s: lambda: b.attention_forward(**a, lengths=None, causal=False, acc=s.acc),
    )
    yield Kernel(
        "attention",
        "attention_backward",
        {
            "q": read(shape),
            "k": read(shape),
            "v": read(shape),
            "probs": read(scores),
            "dy": read(shape),
            "dq": written(shape),
            "dk": written(shape),
            "dv": written(shape),
        },
        ("dq", "dk", "dv"),
        8 * width + 4,
        pairs,
        f"pair of positions, heads of {width}",
        lambda b, a, s: lambda: b.attention_backward(**a, acc=s.acc),
    )
