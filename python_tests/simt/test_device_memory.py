"""Workspaces of the GPU when its memory is full, on a fake of the CUDA runtime (csrc/testing/fake_cuda)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

OUT_OF_MEMORY, ILLEGAL_ADDRESS = 2, 700


def test_what_found_no_room_is_not_held(fakes: Any) -> None:
    """Else the next operation would write beyond the block that is there."""
    small = fakes.library_workspace(1000)
    fakes.plan_fault("cudaMalloc", 1, 2, OUT_OF_MEMORY)
    with pytest.raises(MemoryError, match="no room for a workspace of 5000 bytes"):
        fakes.library_workspace(5000)
    assert fakes.library_workspace_bytes() == 1000 and fakes.library_workspace(1000) == small
    assert fakes.last_error() == 0  # else the next launch would throw it
    assert fakes.library_workspace(5000) != small  # there is room again
    assert fakes.library_workspace_bytes() == 6000 and fakes.calls()["cudaMalloc"] == 4


def test_cached_memory_is_released_and_less_is_asked_for(fakes: Any) -> None:
    fakes.library_workspace(1000)
    released: list[int] = []
    fakes.set_memory_release(lambda: released.append(fakes.calls()["cudaMalloc"]))
    fakes.plan_fault("cudaMalloc", 1, 1, OUT_OF_MEMORY)
    fakes.library_workspace(1500)
    assert released == [2]  # after the one attempt, before the other
    assert fakes.library_workspace_bytes() == 2500  # what was needed, not twice what was held


def test_blocks_grow_so_that_few_are_outgrown(fakes: Any) -> None:
    for size in (100, 110, 150, 201, 400):
        fakes.library_workspace(size)
    assert fakes.calls()["cudaMalloc"] == 3 and fakes.library_workspace_bytes() == 100 + 200 + 400


def test_another_device_has_its_own(fakes: Any) -> None:
    here = fakes.library_workspace(100)
    fakes.set_device(0)
    assert fakes.library_workspace(100) != here


def test_nothing_grows_in_a_capture(fakes: Any) -> None:
    from fp16engine import _simt

    held = fakes.library_workspace(100)
    _simt.begin_recording()
    try:
        assert fakes.library_workspace(100) == held
        with pytest.raises(
            ValueError, match="must not grow while a graph is captured, got a need of 101 bytes"
        ):
            fakes.library_workspace(101)
    finally:
        _simt.end_recording()
    assert "cudaMalloc" in fakes.calls() and fakes.calls()["cudaMalloc"] == 1


def test_an_error_is_reported_once(fakes: Any) -> None:
    """The runtime keeps its last error until it is asked: a launch that asks must not be given an old one."""
    nothing, c = np.empty((2, 0), np.float32), np.ones((2, 3), np.float32)
    fakes.plan_fault("cudaMemsetAsync", 1, 1, ILLEGAL_ADDRESS)
    with pytest.raises(RuntimeError, match=r"cudaMemsetAsync.*an illegal memory access was encountered"):
        fakes.matmul(nothing, np.empty((0, 3), np.float32), None, c, False, False, False)
    assert fakes.last_error() == 0
    fakes.matmul(nothing, np.empty((0, 3), np.float32), None, c, False, False, False)
    assert not c.any()
