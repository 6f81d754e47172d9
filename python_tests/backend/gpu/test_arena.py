"""The planned memory of a recorded step: no live arrays overlap, and little more than they need is used."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.backend.gpu.arena import ALIGNMENT, Arena, Plan, Trace, plan

Lifetimes = list[tuple[int, int, int]]


def _network(rng: np.random.Generator, layers: int) -> Lifetimes:
    """A training step: activations live until the backward pass returns to them, work arrays for a moment."""
    sizes = [int(rng.integers(1, 64)) * ALIGNMENT for _ in range(layers)]
    trace: Lifetimes = []
    last = 3 * layers
    for i, size in enumerate(sizes):
        trace.append((size, 2 * i, last - i))
        trace.append((int(rng.integers(1, 32)) * ALIGNMENT, 2 * i + 1, 2 * i + 2))
    for i in reversed(range(layers)):
        trace.append((sizes[i], len(trace), len(trace) + 2))
    # numbers are positions: allocation n is made at n
    return [(size, n, max(n + 1, min(end, last))) for n, (size, _, end) in enumerate(trace)]


def _random(rng: np.random.Generator, count: int) -> Lifetimes:
    return [
        (int(rng.integers(1, 200)) * ALIGNMENT, n, int(min(count, n + 1 + rng.geometric(0.05))))
        for n in range(count)
    ]


def _check(lifetimes: Lifetimes, found: Plan) -> None:
    assert len(found.offsets) == len(lifetimes)
    assert all(offset % ALIGNMENT == 0 and offset >= 0 for offset in found.offsets)
    for i, (size, first, end) in enumerate(lifetimes):
        assert found.offsets[i] + size <= found.nbytes
        for j in range(i):
            other, begin, stop = lifetimes[j]
            if begin < end and first < stop:
                apart = (
                    found.offsets[i] + size <= found.offsets[j]
                    or found.offsets[j] + other <= found.offsets[i]
                )
                assert apart, f"allocations {j} and {i} overlap"
    alive = [sum(s for s, a, b in lifetimes if a <= t < b) for t in range(len(lifetimes) + 1)]
    assert found.least == max(alive)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("make", "share"), [(_network, 16), (_random, 4)])
def test_no_overlap_and_close_to_the_least(make: Any, share: int, seed: int) -> None:
    lifetimes = make(np.random.default_rng(seed), 60)
    found = plan(lifetimes)
    _check(lifetimes, found)
    assert found.least <= found.nbytes <= found.least + found.least // share


def test_plans_of_nothing_and_of_one() -> None:
    assert plan([]) == Plan((), (), 0, 0)
    assert plan([(512, 0, 1)]) == Plan((512,), (0,), 512, 512)


def test_a_trace_notes_when_arrays_come_and_go() -> None:
    class Owner:
        pass

    trace = Trace()
    owners = [Owner() for _ in range(3)]
    for i, nbytes in enumerate((0, 256, 257)):
        assert trace.allocate(nbytes) == i
        trace.watch(owners[i], i)
        if i == 1:
            owners[0] = None  # type: ignore[call-overload]
            gc.collect()
    assert trace.close() == [(256, 0, 2), (256, 1, 3), (512, 2, 3)]
    owners.clear()  # later ends change nothing
    assert trace.close() == [(256, 0, 2), (256, 1, 3), (512, 2, 3)]


def test_an_arena_hands_out_the_plan_and_refuses_another_step() -> None:
    places = plan([(256, 0, 1), (512, 1, 2), (256, 2, 3)])
    arena = Arena(places, None)
    for i, nbytes in enumerate((256, 512, 10)):
        assert arena.allocate(nbytes) == (i, places.offsets[i])
        arena.release(i)
    arena.close()
    with pytest.raises(fe.errors.CaptureError, match="asked for other memory"):
        arena.allocate(1)
    with pytest.raises(fe.errors.CaptureError, match="asked for other memory"):
        Arena(places, None).allocate(512)
    kept = Arena(places, None)
    kept.allocate(256)
    with pytest.raises(fe.errors.CaptureError, match="kept an array longer"):
        kept.allocate(512)
    with pytest.raises(fe.errors.CaptureError, match="asked for less memory"):
        Arena(places, None).close()
