"""Counting a captured step: nothing runs, and bytes and FLOPs are those that the kernel table declares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.bench import captured_nodes, kernel_cases
from fp16engine.bench.captured_nodes import Call
from fp16engine.precision import Precision
from fp16engine.train.captured import CapturedStep

# all_finite asks the host
KERNELS = [kernel for kernel in kernel_cases.kernels("tiny") if kernel.name != "all_finite"]


def _counted(simt: Any, kernel: kernel_cases.Kernel, setting: kernel_cases.Setting) -> list[Call]:
    def moved(value: Any) -> Any:
        return [moved(a) for a in value] if isinstance(value, list) else simt.from_numpy(value)

    given = {name: moved(value) for name, value in kernel.inputs(setting).items()}
    run = kernel.prepare(simt, given, setting)
    calls: list[Call] = []
    with captured_nodes.recorded(simt, calls.append):
        run()
    return calls


@pytest.mark.parametrize("precision", ["fp16", "mp"])
def test_bytes_and_flops_are_those_of_the_kernel_table(simt: Any, precision: str) -> None:
    setting = kernel_cases.Setting("simt", Precision.get(precision))
    for kernel in KERNELS:
        calls = _counted(simt, kernel, setting)
        assert sum(call.bytes for call in calls) == kernel.bytes(setting), kernel.name
        if kernel.dot_products:
            assert sum(call.flops for call in calls) == kernel.flops, kernel.name
            assert all(call.library for call in calls if call.flops), kernel.name


def test_barriers_are_those_of_cooperative_kernels(simt: Any) -> None:
    setting = kernel_cases.Setting("simt", Precision.get("fp16"))
    waits = {kernel.name for kernel in KERNELS for c in _counted(simt, kernel, setting) if c.barriers}
    norms = {kernel.name for kernel in KERNELS if kernel.family == "batch norm"} - {"batch_norm_inference"}
    assert waits == {*norms, "depthwise 3x3 of 8 weight gradient", "relu_backward with bias sums"}


def test_the_nodes_are_those_of_the_recording(simt: Any) -> None:
    """And counting takes no step, leaves the simulator as it was and says what memory the step has."""
    model = fe.nn.Sequential(fe.nn.Conv2d(3, 8, 3), fe.nn.ReLU(), fe.nn.Flatten(), fe.nn.Linear(8 * 64, 10))
    trainer = fe.Trainer(model, device="simt", momentum=0.9, capture=False)
    images, labels = np.ones((2, 8, 8, 3), np.float16), np.array([1, 2])
    before = {name: np.array(value) for name, value in model.state_dict().items()}
    native, gemm = simt.native, simt.gemm
    counted = captured_nodes.count(trainer, images, labels)
    assert simt.native is native and simt.gemm is gemm and not simt.recording
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    step = CapturedStep.on_batch(trainer, simt.from_numpy(images), labels)
    step.again()
    assert step.recording is not None
    assert [kernel for call in counted.calls for kernel in call.kernels] == step.recording.names  # type: ignore[attr-defined]
    assert counted.nodes == step.kernels and counted.arena_bytes == step.arena_bytes
