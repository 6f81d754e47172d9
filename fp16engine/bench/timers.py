"""How long a call takes on a device: the host's clock on a processor, events on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Call = Callable[[], object]

LEAST_RUNS, MOST_RUNS = 5, 200
_FLUSH_BYTES = 256 << 20  # and at least four times the L2 cache


class HostTimer:
    """Seconds of each run of a call that is over when it returns."""

    flushes = False

    def measure(self, call: Call, seconds: float) -> list[float]:
        """Return the seconds of each run: for about `seconds`, at least five, after one that is not timed."""
        call()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < LEAST_RUNS or (time.perf_counter() < end and len(times) < MOST_RUNS):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return times

    def resident(self, call: Call, repeats: int = 20) -> float | None:
        """Return None: a processor's runs are back to back already."""
        return None


class EventTimer:
    """Seconds of each run on a GPU's own clock, each after the L2 cache was overwritten.

    Overwriting takes longer than the host takes to enqueue a call, so the GPU never waits for the host
    between the two events. `cupy` is the array library (handed in, so that tests need none), `stream` the
    stream that the calls use.
    """

    flushes = True

    def __init__(self, cupy: Any, stream: Any) -> None:
        self._cupy, self._stream = cupy, stream
        cache = int(cupy.cuda.Device().attributes.get("L2CacheSize", 0))
        self._flushed = cupy.empty(max(_FLUSH_BYTES, 4 * cache), "uint8")

    def measure(self, call: Call, seconds: float) -> list[float]:
        """Return the seconds of each run: for about `seconds` of the GPU's time, at least five."""
        call()  # loads code, chooses plans, fills the memory pool
        estimate = self._timed(call, 2)[-1]
        runs = int(min(max(seconds / max(estimate, 1e-6), LEAST_RUNS), MOST_RUNS))
        return self._timed(call, runs)

    def resident(self, call: Call, repeats: int = 20) -> float | None:
        """Return the seconds of a run among `repeats` back to back in one CUDA graph, so that what fits stays
        in the L2 cache and no launch waits for the host; None for a call that cannot be captured."""
        stream = self._stream
        try:
            with stream:
                stream.begin_capture()
                try:
                    for _ in range(repeats):
                        call()
                finally:
                    graph = stream.end_capture()
        except (
            Exception
        ):  # a read-back to the host, say; whatever it was, the call has been timed without a graph
            return None
        graph.launch(stream)
        times = []
        for _ in range(LEAST_RUNS):
            start, stop = self._event(), self._event()
            start.record(stream)
            graph.launch(stream)
            stop.record(stream)
            stop.synchronize()
            times.append(self._elapsed(start, stop) / repeats)
        return sorted(times)[len(times) // 2]

    def _timed(self, call: Call, runs: int) -> list[float]:
        pairs = []
        for _ in range(runs):
            with self._stream:
                self._flushed.fill(0)
            start, stop = self._event(), self._event()
            start.record(self._stream)
            call()
            stop.record(self._stream)
            pairs.append((start, stop))
        self._stream.synchronize()
        return [self._elapsed(start, stop) for start, stop in pairs]

    def _event(self) -> Any:
        return self._cupy.cuda.Event()

    def _elapsed(self, start: Any, stop: Any) -> float:
        return 1e-3 * float(self._cupy.cuda.get_elapsed_time(start, stop))


def device_copy(backend: Any, x: Any) -> Call:
    """Return a call that copies an array as the device's maker does: cudaMemcpyAsync on a GPU."""
    if not backend.capabilities.stream:
        return lambda: backend.copy(x)
    y = backend.empty(x.shape, x.dtype)

    def copy() -> None:
        y.data.copy_from_device_async(x.data, x.nbytes, backend.stream)

    return copy


def timer(backend: Any) -> HostTimer | EventTimer:
    """Return the timer of a backend: events where it has a `stream`, else the host's clock."""
    return EventTimer(backend.xp, backend.stream) if backend.capabilities.stream else HostTimer()
