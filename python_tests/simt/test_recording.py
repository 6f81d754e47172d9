"""Recording and replaying in the simulator: nothing runs while it is recorded, everything in every replay."""

from __future__ import annotations

import gc
from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.backend.gpu.arena import ALIGNMENT


def _recorded(simt: Any, step: Any) -> Any:
    return simt.recorded(simt.traced(step), step)


def test_a_replay_does_it_again_on_the_same_memory(simt: Any) -> None:
    rng = np.random.default_rng(0)
    x, w = (simt.from_numpy(rng.standard_normal((16, 16)).astype(np.float16)) for _ in range(2))
    out = simt.zeros((16, 16), "float16")

    def step() -> None:
        y = simt.matmul(simt.binary("mul", x, 0.5), w, False, False, "float32")  # a library's
        y = simt.cat([y, simt.transpose(y, (1, 0))], 0)
        z = simt.binary("add", simt.full((16, 16), 1.0, "float16"), simt.getitem(y, slice(8, 24)))
        simt._assign(out, z)

    plan = simt.traced(step)
    expected = np.array(out)
    simt._fill(out, 0)
    recording = simt.recorded(plan, step)
    assert not out.any()
    for _ in range(2):
        simt._fill(out, 0)
        recording.replay()
        bounds.same_bits(np.array(out), expected)
    simt.write(x, np.zeros((16, 16), np.float16))
    recording.replay()
    assert (out == 1).all()
    assert recording.kernels == len(recording.names) == 9
    assert recording.names[1] == "cublasLtMatmul" and "map_kernel" in recording.names[0]


def test_arrays_of_the_arena(simt: Any) -> None:
    seen: list[Any] = []
    kept: list[Any] = []

    def step() -> None:
        seen.clear()
        kept.clear()
        for n in (3, 300, 70000):
            seen.append(simt.empty((n,), "float16").__array_interface__["data"][0])
        kept.append(simt.full((5,), 2.0, "float32")[1:])

    gc.collect()  # what earlier tests left must not be freed in between
    before = simt.memory()["current"]
    recording = _recorded(simt, step)
    assert all(address % ALIGNMENT == 0 for address in seen)
    assert seen[0] == seen[1] == seen[2]  # one after the other, all of them gone
    gc.collect()
    assert simt.memory()["current"] - before >= recording.arena_bytes > 140000
    recording.replay()
    assert (kept[0] == 2).all()  # a view keeps its place and the arena
    del recording
    gc.collect()
    assert (kept[0] == 2).all()


def test_what_a_replay_has_not_written_is_nan(simt: Any) -> None:
    out = simt.zeros((4,), "float32")
    recording = _recorded(simt, lambda: simt._assign(out, simt.empty((4,), "float32")))
    simt._fill(out, 0)
    recording.replay()
    assert np.isnan(out).all()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda simt, x: simt.from_numpy(np.ones(3)), "a value came from the host"),
        (lambda simt, x: simt.write(x, np.zeros(3)), "a value came from the host"),
        (lambda simt, x: simt.to_numpy(x), "a value was read back to the host"),
        (lambda simt, x: simt.all_finite([x]), "a value was read back to the host"),
        (lambda simt, x: simt.getitem(x, np.array([0, 1])), "a value came from the host"),
    ],
)
def test_the_host_is_out_of_reach(simt: Any, what: Any, words: str) -> None:
    x = simt.zeros((3,), "float32")
    with pytest.raises((fe.errors.CaptureError, ValueError), match=f"{words}.* while a step is recorded"):
        _recorded(simt, lambda: what(simt, x))
    assert not simt.recording and not simt.native.recording()
    assert simt.binary("add", x, 1.0)[0] == 1  # and everything continues as before


def test_one_recording_at_a_time(simt: Any) -> None:
    recording = _recorded(simt, lambda: None)
    simt.native.begin_recording()
    for function in (simt.native.begin_recording, recording.replay):
        with pytest.raises(simt.native.SimulationError, match="while another one is open"):
            function()
    simt.native.end_recording()
    with pytest.raises(simt.native.SimulationError, match="none is open"):
        simt.native.end_recording()
