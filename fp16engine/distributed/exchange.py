"""The gradients of a step, exchanged in buckets while the backward pass continues.

Parameters fill buckets in the order in which the backward pass meets them, the reverse of the model's. A
bucket whose gradients are all there goes to a thread, which exchanges one bucket after the other, in the same
order on every rank.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import backend as backends
from ..autograd import Edge, Function
from ..floats import numpy_dtype
from ..observer import observed
from ..tensor import Tensor
from . import reduce as reductions
from .transport import GRADIENTS, HOST, Messages, Transport, gathered

Array = Any
BUCKET_BYTES, SHARD_BYTES = 1 << 18, 1 << 16


def bucket_bytes(ranks: int) -> int:
    """The most bytes of a bucket: small enough to start early, large enough that messages are not tiny.

    >>> bucket_bytes(2), bucket_bytes(64)
    (262144, 4194304)
    """
    return max(BUCKET_BYTES, ranks * SHARD_BYTES)


def buckets(parameters: Sequence[Tensor], most: int) -> list[list[int]]:
    """Return the indices of parameters in buckets of one dtype and of at most `most` bytes, or of one array.

    >>> import fp16engine as fe
    >>> model = fe.nn.Sequential(fe.nn.Linear(4, 3), fe.nn.Linear(3, 2))
    >>> buckets(list(model.parameters()), 40)
    [[3, 2], [1], [0]]
    """
    result: list[list[int]] = []
    filled, dtype = 0, ""
    for index in reversed(range(len(parameters))):
        parameter = parameters[index]
        size = parameter.size * numpy_dtype(parameter.dtype).itemsize
        if not result or dtype != parameter.dtype or filled + size > most:
            result.append([])
            filled, dtype = 0, parameter.dtype
        result[-1].append(index)
        filled += size
    return result


def uses(loss: Tensor) -> Counter[int]:
    """Count, by the identity of each leaf tensor, the gradients that a backward pass from `loss` gives it."""
    found: Counter[int] = Counter()
    seen: set[int] = set()
    left: list[Function] = [] if loss.node is None else [loss.node]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        for edge in node.edges:
            if isinstance(edge, Edge):
                left.append(edge.node)
            elif edge is not None:
                found[id(edge)] += 1
    return found


class Exchanger:
    """The thread that exchanges buckets, and how long it worked and was waited for.

    What somebody observes is exchanged where its calls are seen: in the thread that trains, but not before
    `drain`, which a rank without gradients of its own comes to as well.

    Attributes:
        busy: seconds in which buckets were exchanged.
        waited: seconds for which the training thread had to wait.
    """

    def __init__(self, transport: Transport, reduce: str) -> None:
        self.transport, self.reduce = transport, reduce
        self.busy = self.waited = 0.0
        self._work: queue.SimpleQueue[Callable[[], object] | threading.Event] = queue.SimpleQueue()
        self._observed: list[Callable[[], object]] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="fp16engine-exchange", daemon=True).start()

    def put(self, work: Callable[[], object]) -> None:
        """Do something after all that was put before."""
        if observed() or self._observed:
            self._observed.append(work)
        else:
            self._work.put(work)

    def drain(self) -> None:
        """Wait until all is done; raises what went wrong."""
        done = threading.Event()
        start = time.perf_counter()
        self._work.put(done)
        done.wait()
        if self._error is not None:
            raise self._error
        after = time.perf_counter()
        observed_work, self._observed = self._observed, []
        for work in observed_work:
            work()
        end = time.perf_counter()
        self.busy += end - after
        self.waited += end - start

    def _run(self) -> None:
        while True:
            work = self._work.get()
            if isinstance(work, threading.Event):
                work.set()
                continue
            if self._error is not None:
                continue
            start = time.perf_counter()
            try:
                work()
            except BaseException as error:
                self._error = error
            self.busy += time.perf_counter() - start


class ExchangedSum:
    """The `GradientSum` of a step whose micro-batches the ranks share."""

    def __init__(self, exchanger: Exchanger, parameters: Sequence[Tensor], count: int) -> None:
        self._exchanger, self._parameters, self._count = exchanger, parameters, count
        self._rank, self._size = exchanger.transport.rank, exchanger.transport.size
        transport, self._device = exchanger.transport, parameters[0].device if parameters else HOST
        carrier = transport.for_device(self._device)
        if carrier is None:
            self._device = HOST
        self._carrier: Messages = transport if carrier is None else carrier
        self._buckets = buckets(parameters, bucket_bytes(self._size))
        self._means = [self._mean(indices) for indices in self._buckets]
        self._bucket_of = {id(parameters[i]): b for b, indices in enumerate(self._buckets) for i in indices}
        self._has = np.zeros(len(parameters), np.uint8)
        self._round = 0
        self._left: list[int] = []
        self._next = 0

    def _mean(self, indices: list[int]) -> reductions.Mean:
        length = sum(self._parameters[i].size for i in indices)
        dtype, reduce = self._parameters[indices[0]].dtype, self._exchanger.reduce
        return reductions.start(reduce, self._carrier, length, dtype, GRADIENTS, self._device)

    def backward(self, loss: Tensor, gradient: Tensor) -> None:
        """Go back, and start the exchange of each bucket as soon as its gradients are there."""
        expected = uses(loss)
        self._left = [sum(expected[id(self._parameters[i])] for i in b) for b in self._buckets]
        self._next = 0
        for parameter in self._parameters:
            parameter.on_grad = self._arrived
        try:
            self._start_ready()
            loss.backward(gradient)
        finally:
            for parameter in self._parameters:
                parameter.on_grad = None
        self._start_rest()

    def _arrived(self, parameter: Tensor) -> None:
        self._left[self._bucket_of[id(parameter)]] -= 1
        self._start_ready()

    def _start_ready(self) -> None:
        while self._next < len(self._buckets) and self._left[self._next] <= 0:
            self._start(self._next)

    def _start_rest(self) -> None:
        while self._next < len(self._buckets):
            self._start(self._next)
        for parameter in self._parameters:
            parameter.grad = None
        self._round += 1

    def _start(self, bucket: int) -> None:
        """Hand a bucket of this round over; a gradient that is not there counts as zeros."""
        arrays: list[Array] | None = None
        if self._round * self._size + self._rank < self._count:
            arrays = []
            for i in self._buckets[bucket]:
                parameter = self._parameters[i]
                if parameter.grad is None:
                    zeros = backends.get(self._device).zeros((parameter.size,), parameter.dtype)
                    arrays.append(zeros)
                else:
                    self._has[i] = 1
                    arrays.append(moved(parameter.grad.data, parameter.device, self._device).reshape(-1))
        most = self._count - self._round * self._size
        ranks = range(min(self._size, most))
        self._exchanger.put(partial(_add, self._means[bucket], self._device, arrays, ranks))
        self._next = bucket + 1

    def finish(self) -> None:
        """Take part in rounds without a micro-batch of this rank, then put the means on the parameters."""
        while self._round * self._size < self._count:
            self._next = 0
            self._start_rest()
        results: list[Array] = []
        for mean in self._means:
            self._exchanger.put(partial(_take, mean, self._count, results))
        self._exchanger.drain()
        somewhere = np.maximum.reduce(gathered(self._exchanger.transport, self._has))
        for indices, values in zip(self._buckets, results, strict=True):
            start = 0
            for i in indices:
                parameter = self._parameters[i]
                own = values[start : start + parameter.size].reshape(parameter.shape)
                start += parameter.size
                if somewhere[i]:
                    own = moved(backends.get(self._device).copy(own), self._device, parameter.device)
                    parameter.grad = Tensor(own, parameter.device)


def _add(mean: reductions.Mean, device: str, arrays: list[Array] | None, ranks: range) -> None:
    mean.add(None if arrays is None else backends.get(device).cat(arrays, 0), ranks)


def _take(mean: reductions.Mean, count: int, results: list[Array]) -> None:
    results.append(mean.result(count))


def moved(array: Array, device: str, to: str) -> Array:
    """Return an array of a device on another one; itself where they are the same."""
    if device == to:
        return array
    return backends.get(to).from_numpy(backends.get(device).to_numpy(array))
