"""What a step computes and moves, counted from its backend calls, and what the machine can at best."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..observer import BackendCall, arrays_in, observe
from .contender import Contender

PEAK, COPY = "multiply-adds", "copy"
_COPIED = 256 << 20  # bytes, beyond any cache
_STEPS = 1 << 15  # of a call that multiplies and adds: about a millisecond


class Work(NamedTuple):
    """FLOPs of a step's products, two a multiply-add, and bytes of the arrays that its operations take.

    A convolution counts as the direct sum, whatever algorithm runs. An array that a call is given or returns
    counts once for the call.
    """

    flops: int
    bytes: int


def count(step: Callable[[], object]) -> Work:
    """Take a step and return its work.

    >>> import fp16engine as fe
    >>> layer, x = fe.nn.Linear(4, 2).to("reference"), fe.tensor([[0.0] * 4] * 3, device="reference")
    >>> count(lambda: layer(x))
    Work(flops=48, bytes=112)
    """
    flops = moved = 0

    def around(call: BackendCall) -> Any:
        nonlocal flops, moved
        result = call.run()
        if call.op in _PRODUCTS:
            flops += 2 * _PRODUCTS[call.op](call.named_arguments(), result)
        given = arrays_in((*call.args, *call.kwargs.values(), result))
        moved += sum({id(array): array.nbytes for array in given}.values())
        return result

    with observe(around):
        step()
    return Work(flops, moved)


def _needed(results: tuple[Any, ...]) -> int:
    """Return how many of a backward pass's gradients that are products, dx and dw, it gave."""
    return sum(result is not None for result in results[:2])


# Multiply-adds of an operation's products, from its arguments by name and its result.
_PRODUCTS: dict[str, Callable[[dict[str, Any], Any], int]] = {
    "matmul": lambda a, y: y.size * a["a"].shape[-2 if a["transpose_a"] else -1],
    "linear_forward": lambda a, y: y.size * a["w"].shape[1],
    "linear_backward": lambda a, y: a["dy"].size * a["w"].shape[1] * _needed(y),
    "conv2d_forward": lambda a, y: y.size * prod(a["w"].shape[1:]),
    "conv2d_backward": lambda a, y: a["dy"].size * prod(a["w"].shape[1:]) * _needed(y),
    "attention_forward": lambda a, y: 2 * y[0].size * y[1].shape[-1],
    "attention_backward": lambda a, y: 4 * a["dy"].size * a["probs"].shape[-1],
}


def shares(
    images_per_second: float, flops: float, moved: float | None, best: dict[str, float]
) -> dict[str, float | None]:
    """Return the shares of the machine's rates that a step of so much work per image reaches."""
    return {
        "share_of_peak": images_per_second * flops / best[PEAK] if best else None,
        "share_of_copy": images_per_second * moved / best[COPY] if best and moved else None,
    }


def gauges(backend: Any) -> list[Contender]:
    """Return what takes turns with the contenders: its `rates` are the machine's, in FLOP/s and bytes/s.

    PEAK: FP32 multiply-adds on registers, on all threads, of the instruction set in use. COPY: a large array
    is read and another one written, by all threads (its negative, which costs no time next to the memory's).
    There are none where the device has no such loop.
    """
    if not backend.capabilities.multiply_adds:
        return []
    copied = backend.from_numpy(np.ones(_COPIED // 4, np.float32))
    flops = backend.multiply_adds(_STEPS)
    return [
        Contender("machine", PEAK, flops, lambda: backend.multiply_adds(_STEPS)),
        Contender("machine", COPY, 2 * _COPIED, lambda: backend.unary("neg", copied)),
    ]
