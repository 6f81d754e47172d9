"""Batch and layer normalisation."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .case import Kernel, Operand, Prepare, features, pick, read, updated, written


def _batch_norm_forward(activation: str | None) -> Prepare:
    return lambda b, a, s: (
        lambda: b.batch_norm_forward(**a, momentum=0.99, eps=1e-3, activation=activation, acc=s.acc)
    )


def _batch_norm_backward(activation: str | None) -> Prepare:
    return lambda b, a, s: lambda: b.batch_norm_backward(**a, activation=activation, acc=s.acc)


def batch_norm(size: str) -> Iterator[Kernel]:
    shape = features(size)
    channels, count = shape[-1:], math.prod(shape)
    vector = {"gamma": read(channels, kind="statistics"), "beta": read(channels, kind="statistics")}
    running = {
        "running_mean": updated(channels, kind="statistics"),
        "running_var": updated(channels, kind="statistics", positive=True),
    }
    saved = {
        "mean": written(channels, kind="statistics"),
        "inv_std": written(channels, kind="statistics"),
    }
    for activation in (None, "relu"):
        suffix = " with ReLU" if activation else ""
        yield Kernel(
            "batch norm",
            f"batch_norm_forward{suffix}",
            {"x": read(shape, 2), **vector, **running, "y": written(shape), **saved},
            ("y", "mean", "inv_std"),
            9 if activation else 8,
            count,
            "element",
            _batch_norm_forward(activation),
        )
        yield Kernel(
            "batch norm",
            f"batch_norm_backward{suffix}",
            {
                "x": read(shape, 2),
                **vector,
                "mean": read(channels, kind="statistics"),
                "inv_std": read(channels, kind="statistics", positive=True),
                "dy": read(shape, 2),
                "dx": written(shape),
                "dgamma": written(channels, kind="statistics"),
                "dbeta": written(channels, kind="statistics"),
            },
            ("dx", "dgamma", "dbeta"),
            17 if activation else 11,
            count,
            "element",
            _batch_norm_backward(activation),
        )
    yield Kernel(
        "batch norm",
        "batch_norm_forward with residual and ReLU",
        {
            "x": read(shape, 2), "residual": read(shape), **vector, **running, "y": written(shape), **saved
        },
        ("y", "mean", "inv_std"),
        10,
        count,
        "element",
        _batch_norm_forward("relu"),
    )  # fmt: skip
    yield Kernel(
        "batch norm",
        "batch_norm_forward of a sum with ReLU",
        {
            "x": read(shape), "addend": read(shape), **vector, **running,
            "y": written(shape), **saved, "s": Operand(shape, 1, 1),
        },
        ("y", "mean", "inv_std", "s"),
        10,
        count,
        "element",
        _batch_norm_forward("relu"),
    )  # fmt: skip
    gradients = {
        "mean": read(channels, kind="statistics"),
        "inv_std": read(channels, kind="statistics", positive=True),
        "dx": written(shape),
        "dgamma": written(channels, kind="statistics"),
        "dbeta": written(channels, kind="statistics"),
    }
    yield Kernel(
        "batch norm",
        "batch_norm_backward with residual and ReLU",
        {
            "x": read(shape, 2), **vector, "y": read(shape), "dy": read(shape), **gradients,
            "dr": Operand(shape, 1, 1),
        },
        ("dx", "dgamma", "dbeta", "dr"),
        12,
        count,
        "element",
        _batch_norm_backward("relu"),
    )  # fmt: skip
    yield Kernel(
        "batch norm",
        "batch_norm_backward of a sum with ReLU",
        {
            "x": read(shape, 2), **vector, "dy": read(shape, 2), "pending_grad": read(shape), **gradients,
            "db": written(channels),
        },
        ("dx", "dgamma", "dbeta", "db"),
        19,
        count,
        "element",
        lambda b, a, s: lambda: b.batch_norm_backward(**a, activation="relu", acc=s.acc, sums=True),
    )  # fmt: skip
    wide = (*shape[:-1], 2 * shape[-1])
    both, twice = (shape[-1] * 2,), 2 * count
    of_both = {"gamma": read(both, kind="statistics"), "beta": read(both, kind="statistics")}
    yield Kernel(
        "batch norm",
        "batch_norm_forward of channels side by side",
        {
            "x": read(shape), "joined": read(shape), **of_both,
            "running_mean": updated(both, kind="statistics"),
            "running_var": updated(both, kind="statistics", positive=True),
            "y": written(wide), "mean": written(both, kind="statistics"),
            "inv_std": written(both, kind="statistics"), "s": Operand(wide, 1, 1),
        },
        ("y", "mean", "inv_std", "s"),
        8,
        twice,
        "element",
        _batch_norm_forward(None),
    )  # fmt: skip
    yield Kernel(
        "batch norm",
        "batch_norm_backward of channels side by side",
        {
            "x": read(wide, 2), **of_both, "mean": read(both, kind="statistics"),
            "inv_std": read(both, kind="statistics", positive=True), "dy": read(wide, 2),
            "pending_grad": read(wide), "dx": written(shape), "dgamma": written(both, kind="statistics"),
            "dbeta": written(both, kind="statistics"), "dr": written(shape),
        },
        ("dx", "dgamma", "dbeta", "dr"),
        12,
        twice,
        "element",
        lambda b, a, s: lambda: b.batch_norm_backward(**a, activation=None, acc=s.acc, split=channels[0]),
    )  # fmt: skip
    yield Kernel(
        "batch norm",
        "batch_norm_inference",
        {
            "x": read(shape),
            **vector,
            "running_mean": read(channels, kind="statistics"),
            "running_var": read(channels, kind="statistics", positive=True),
            "y": written(shape),
        },
        ("y",),
        4,
        count,
        "element",
        lambda b, a, s: lambda: b.batch_norm_inference(**a, eps=1e-3, activation=None),
    )


def layer_norm(size: str) -> Iterator[Kernel]:
    rows, width = pick(size, (10, 24), (6400, 64), (1 << 21, 64))
    vector = {"gamma": read((width,), kind="statistics")}
    yield Kernel(
        "layer norm",
        "layer_norm_forward",
        {
            "x": read((rows, width)),
            **vector,
            "beta": read((width,), kind="statistics"),
            "y": written((rows, width)),
            "mean": written((rows,), kind="statistics"),
            "inv_std": written((rows,), kind="statistics"),
        },
        ("y", "mean", "inv_std"),
        8,
        rows * width,
        "element",
        lambda b, a, s: lambda: b.layer_norm_forward(**a, eps=1e-6, acc=s.acc),
    )
    yield Kernel(
        "layer norm",
        "layer_norm_backward",
        {
            "x": read((rows, width)),
            **vector,
            "mean": read((rows,), kind="statistics"),
            "inv_std": read((rows,), kind="statistics", positive=True),
            "dy": read((rows, width)),
            "dx": written((rows, width)),
            "dgamma": written((width,), kind="statistics"),
            "dbeta": written((width,), kind="statistics"),
        },
        ("dx", "dgamma", "dbeta"),
        14,
        rows * width,
        "element",
        lambda b, a, s: lambda: b.layer_norm_backward(**a, acc=s.acc),
    )
