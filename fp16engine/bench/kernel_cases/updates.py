"""Optimizers: the kernel of `step()`, with the little Python around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from .case import Arrays, Kernel, Prepare, Setting, pick, read, updated


def _optimizer(name: str, **settings: Any) -> Prepare:
    def prepare(_: Any, a: Arrays, s: Setting) -> Callable[[], Any]:
        from ... import optim
        from ...tensor import Tensor

        params = [Tensor(p, s.device, requires_grad=True) for p in a["params"]]
        for p, grad in zip(params, a["grads"], strict=True):
            p.grad = Tensor(grad, s.device)
        update = s.precision.update
        optimizer = getattr(optim, name)(params, lr=1e-6, update=update, **settings)

        def step() -> list[Any]:
            optimizer.step()
            state = [arrays for slot in optimizer.slots for arrays in optimizer.state[slot]]
            return state + [master for master in optimizer.masters if master is not None]

        return step

    return prepare


def optimizers(size: str) -> Iterator[Kernel]:
    count, shape = pick(size, (3, (5, 7)), (54, (32, 3, 3, 32)), (8, (1 << 24,)))
    shared = {"params": updated(shape, kind="parameter", count=count), "grads": read(shape, count=count)}
    masters = {"masters": updated(shape, kind="master", count=count)}
    for label, slots, flops, prepare in (
        ("SGD with momentum", ("momenta",), 5, _optimizer("SGD", momentum=0.9)),
        ("Adam", ("m", "v"), 14, _optimizer("Adam")),
        ("RMSprop", ("v",), 9, _optimizer("RMSprop")),
    ):
        yield Kernel(
            "optimizer",
            label,
            {**shared, **{slot: updated(shape, kind="state", count=count) for slot in slots}, **masters},
            (*slots, "masters"),
            flops,
            count * math.prod(shape),
            "parameter",
            prepare,
        )
