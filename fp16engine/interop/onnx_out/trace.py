"""The calls of the backend that a network makes, seen twice: sizes that differ follow the batch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...autograd import no_grad
from ...nn import Module
from ...observer import BackendCall, Observer
from ...precision import Precision
from ...tensor import Tensor

_POLICY = "fp32+direct"
BATCHES = (2, 3)  # a batch of one would take ways of its own


class Pair(NamedTuple):
    """An array of the first pass, and the one in its place in the second."""

    first: np.ndarray
    second: np.ndarray


@dataclass(frozen=True)
class Call:
    """A call of the backend: arguments by name, a `Pair` for an array, and its results."""

    op: str
    arguments: dict[str, Any]
    results: tuple[Pair, ...]


@dataclass(frozen=True)
class Trace:
    """The calls of a forward pass, its input and output, and the arrays that are the network's own."""

    calls: tuple[Call, ...]
    x: Pair
    y: Pair
    own: tuple[np.ndarray, ...]


class _Seen(NamedTuple):
    op: str
    arguments: dict[str, Any]
    results: tuple[np.ndarray, ...]


class _Recorder(Observer):
    """Keeps every call with its arrays, so that no memory is used twice: an address tells an array."""

    def __init__(self) -> None:
        self.calls: list[_Seen] = []

    def around(self, call: BackendCall) -> Any:
        arguments = call.named_arguments()
        result = call.run()
        results = result if isinstance(result, tuple) else (result,)
        self.calls.append(_Seen(call.op, arguments, tuple(r for r in results if isinstance(r, np.ndarray))))
        return result


def trace(model: Module, image: tuple[int, int, int]) -> Trace:
    """Run a copy of a network in FP32 on the CPU, in evaluation, on images (height, width, channels)."""
    twin = copy.deepcopy(model).to("cpu", _POLICY).eval()
    passes = []
    for batch in BATCHES:
        generator = np.random.default_rng(0)
        x = generator.standard_normal((batch, *image)).astype(np.float32)
        with no_grad(), Precision.get(_POLICY).use(), _Recorder() as recorder:
            y = twin(Tensor(x, "cpu"))
        passes.append((recorder.calls, x, y.data))
    (first, x1, y1), (second, x2, y2) = passes
    if [call.op for call in first] != [call.op for call in second]:
        raise ValueError("the model must do the same operations for every size of a batch, got others")
    own = [tensor.data for tensor in (*twin.parameters(), *(buffer for _, buffer in twin.named_buffers()))]
    calls = tuple(
        Call(
            a.op,
            {name: _paired(value, b.arguments[name]) for name, value in a.arguments.items()},
            tuple(map(Pair, a.results, b.results)),
        )
        for a, b in zip(first, second, strict=True)
    )
    return Trace(calls, Pair(x1, x2), Pair(y1, y2), tuple(own))


def _paired(first: Any, second: Any) -> Any:
    if isinstance(first, np.ndarray):
        return Pair(first, second)
    if isinstance(first, list | tuple) and any(isinstance(item, np.ndarray) for item in first):
        return [Pair(a, b) for a, b in zip(first, second, strict=True)]
    if first != second:  # a shape that follows the batch
        return (first, second)
    return first
