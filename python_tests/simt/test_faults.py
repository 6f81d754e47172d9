"""Faults planted in kernels (csrc/testing/planted.cuh): the simulator names each, under every schedule."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

SCHEDULES = range(5)
BLOCK, BLOCKS = 256, 3

# What stops the launch, and the sentence it is stopped with.
STOPPED = {
    "race": r"^a race on shared element \d+: threads \d+ and \d+ touch it with no barrier between",
    "warp race": r"^a race on shared element \d+: threads \d+ and \d+ touch it with no barrier between",
    "early reuse": r"^a race on shared element \d+: threads \d+ and \d+ touch it with no barrier between",
    "bounds": r"^element 768 of an array of 768 was accessed: out of bounds",
    "shared bounds": r"^shared element 256 of 256 was accessed: out of bounds",
    "divergent barrier": r"^a barrier was not reached by all threads: 128 of 256 wait at a block barrier",
    "divergent shuffle": r"^shuffle: the mask names lanes that have exited or never existed",
    "skipped grid barrier": r"^a grid's barrier was not reached by all blocks",
    "misaligned": r"^a vector access of 16 bytes is not aligned",
}
# What no launch can be stopped for shows as NaN: memory nobody has written yet is full of it.
POISONED = {"unwritten": BLOCKS * BLOCK, "other block": (BLOCKS - 1) * BLOCK}


def _launch(simt: Any, fault: str) -> tuple[np.ndarray, np.ndarray]:
    x = simt.from_numpy(np.arange(BLOCKS * BLOCK, dtype=np.float32))
    y = simt.empty(x.shape, "float32")
    simt.native.launch_planted(fault, x, y)
    return x, y


def test_every_fault_is_listed(simt: Any) -> None:
    assert set(simt.native.planted_faults()) == {"nothing", "grid barrier", *STOPPED, *POISONED}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_nothing_planted_nothing_found(simt: Any, schedule: int) -> None:
    simt.set_schedule(schedule)
    x, y = _launch(simt, "nothing")
    next_thread = np.roll(x.reshape(BLOCKS, BLOCK), -1, 1).ravel()
    np.testing.assert_array_equal(y, 2 * next_thread)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_grid_waits_for_all_its_blocks(simt: Any, schedule: int) -> None:
    simt.set_schedule(schedule)
    simt.native.set_num_threads(1)  # the blocks of such a launch run at once all the same
    x, y = _launch(simt, "grid barrier")
    first_of_next = np.roll(x.reshape(BLOCKS, BLOCK)[:, 0], -1)
    np.testing.assert_array_equal(y, np.repeat(first_of_next, BLOCK))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("fault", STOPPED)
def test_stopped_with_a_sentence(simt: Any, fault: str, schedule: int) -> None:
    simt.set_schedule(schedule)
    with pytest.raises(simt.native.SimulationError, match=STOPPED[fault]) as caught:
        _launch(simt, fault)
    assert isinstance(caught.value, RuntimeError)
    message = str(caught.value)
    assert "\n" not in message
    assert "planted_" in message or re.search(r"\[block \(\d, 0, 0\) thread \(\d+, 0, 0\)\]$", message)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("fault", POISONED)
def test_poison_shows(simt: Any, fault: str, schedule: int) -> None:
    simt.set_schedule(schedule)
    simt.native.set_num_threads(1)  # block after block
    y = _launch(simt, fault)[1]
    assert np.count_nonzero(np.isnan(y)) == POISONED[fault]


def test_a_fault_leaves_the_simulator_usable(simt: Any) -> None:
    for fault in STOPPED:
        with pytest.raises(simt.native.SimulationError):
            _launch(simt, fault)
        assert np.isfinite(_launch(simt, "nothing")[1]).all()


def test_fresh_arrays_are_poisoned(simt: Any) -> None:
    for offset in (0, 1):
        simt.offset = offset
        assert np.isnan(simt.empty((3, 5), "float16")).all()
        assert np.isnan(simt.empty((), "float32"))
        assert (simt.empty((7,), "uint8") == 255).all()
        assert simt.empty((0, 3), "float32").shape == (0, 3)
    assert simt.empty((3, 5), "float16").ctypes.data % 16 == 2


def test_memory_counts_arrays_alive(simt: Any) -> None:
    before = simt.memory()["current"]
    x = simt.zeros((10, 10), "float16")
    view = x.reshape(100)
    del x
    assert simt.memory()["current"] - before == 200
    del view
    assert simt.memory()["current"] == before
