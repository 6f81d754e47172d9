"""Tests of the kernel benchmark: the table's arrays and arithmetic are those of real calls."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import bounds
import numpy as np
import pytest

from fp16engine import backend as backends
from fp16engine.bench import kernel_cases, timers
from fp16engine.bench import kernels as bench
from fp16engine.bench.kernel_cases import SIZES, Kernel, Setting, kernels
from fp16engine.precision import Precision

TINY = kernels("tiny")
PRESETS = ("fp32", "fp16", "mp")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def _returned(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return [y for y in value if y is not None] if isinstance(value, list | tuple) else [value]


@pytest.mark.parametrize("precision", PRESETS)
@pytest.mark.parametrize("kernel", TINY, ids=lambda kernel: kernel.name)
def test_declared_arrays_are_those_of_the_call(kernel: Kernel, precision: str, backend: Any) -> None:
    """Every array given or returned is in the table with its size and type, and no other is."""
    setting = Setting(backend.name, Precision.get(precision))
    given = kernel.inputs(setting)
    returned = _returned(kernel.prepare(backend, bench.on_device(backend, given), setting)())
    total = 0
    for name, operand in kernel.operands.items():
        passes, rest = divmod(operand.moved(setting), operand.nbytes(setting))
        assert rest == 0
        if not operand.moved(setting) and name in kernel.outputs:
            continue  # masters, where the policy has none
        if name in kernel.outputs:
            arrays, returned = returned[: operand.count], returned[operand.count :]
        else:
            arrays = given[name] if operand.count > 1 else [given[name]]
        assert len(arrays) == operand.count
        for array in map(backend.to_numpy, arrays):
            assert (array.shape, array.dtype) == (operand.shape, setting.dtype(operand.kind)), name
            total += passes * array.nbytes
    assert not returned
    assert kernel.bytes(setting) == total


def test_bytes_are_counted_by_hand() -> None:
    """An example a reader can check: two reads of x and a write of y, next to eight vectors of channels."""
    forward = next(kernel for kernel in TINY if kernel.name == "batch_norm_forward")
    x = 2 * 6 * 6 * 8
    fp16, mp = (forward.bytes(Setting("cpu", Precision.get(name))) for name in ("fp16", "mp"))
    assert fp16 == 2 * (3 * x + 8 * 8)
    assert mp == 2 * 3 * x + 4 * 8 * 8
    sgd = next(kernel for kernel in TINY if kernel.name == "SGD with momentum")
    assert sgd.bytes(Setting("cpu", Precision.get("fp16"))) == 3 * 35 * 2 * 5
    assert sgd.bytes(Setting("cpu", Precision.get("mp"))) == 3 * 35 * (2 * 2 + 4 * 4)


@pytest.mark.parametrize(
    "kernel", [k for k in TINY if k.dot_products or k.family == "depthwise convolution"], ids=lambda k: k.name
)
def test_arithmetic_of_dot_products(kernel: Kernel, reference: Any) -> None:
    """With ones for factors an output counts its products; those away from the boundary have all of them."""
    setting = Setting("reference", Precision.get("fp32"))
    ones = {
        name: np.ones_like(a) if name != "b" else np.zeros_like(a)
        for name, a in kernel.inputs(setting).items()
    }
    (y,) = _returned(kernel.prepare(reference, ones, setting)())
    assert kernel.flops == 2 * y.max() * y.size


def test_sizes_are_as_promised() -> None:
    fp16 = Setting("cuda", Precision.get("fp16"))
    names = {size: [kernel.name for kernel in kernels(size)] for size in SIZES}
    assert all(len(set(of_size)) == len(of_size) for of_size in names.values())
    for kernel in kernels("large"):
        if not kernel.dot_products:
            assert sum(o.nbytes(fp16) for o in kernel.operands.values()) >= 256e6, kernel.name
    assert (
        {k.family for k in kernels("large")}
        == {k.family for k in kernels("in-situ")}
        == {k.family for k in TINY}
    )
    with pytest.raises(ValueError, match=r"size must .* got 'huge'"):
        kernels("huge")


@pytest.mark.slow
def test_result_is_json_and_against_the_floor() -> None:
    families = ["batch norm", "matrix product"]
    result = bench.run(("tiny",), device="reference", families=families, seconds=1e-4)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(dict.fromkeys(row["family"] for row in result["kernels"])) == families
    assert not result["failures"] and result["peer"] is None
    copied, product = result["copy"][0]["bytes_per_second"], result["products"]["flops_per_second"]
    for row in result["kernels"]:
        assert row["runs"] >= timers.LEAST_RUNS and row["lowest_us"] <= row["us"] <= row["highest_us"]
        times = {"bytes": row["bytes"] / copied, "arithmetic": row["flops"] / product}
        if not row["dot_products"]:
            del times["arithmetic"]
        assert row["floor_us"] == pytest.approx(1e6 * max(times.values()))
        assert row["bound_by"] == max(times, key=lambda name: times[name])
        assert row["share_of_copy"] == pytest.approx(1e6 * row["bytes"] / row["us"] / copied)


def test_a_kernel_that_fails_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("cuDNN: no")

    monkeypatch.setattr(backends.get("reference"), "softmax", broken)
    result = bench.run(("tiny",), device="reference", families=["softmax"], seconds=1e-4)
    assert result["failures"] == [{"size": "tiny", "kernel": "softmax", "reason": "cuDNN: no"}]
    assert [row["kernel"] for row in result["kernels"]] == ["softmax_backward"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": ("huge",)}, r"sizes must .* got 'huge'"),
        ({"families": ["sorting"]}, r"families must .* got 'sorting'"),
        ({"peer": "jax"}, r"peer must .* got 'jax'"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bench.run(**{"sizes": ("tiny",), "device": "reference", **options})


class FakeGpu:
    """CuPy's names, recording what is asked in which order; a run lasts three milliseconds of its clock."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.clock = 0.0
        self.capturing = False
        self.cuda = self
        gpu = self

        class Event:
            def record(self, stream: Any) -> None:
                gpu.log.append("event")
                self.time = gpu.clock

            def synchronize(self) -> None:
                pass

        self.Event = Event

    def Device(self) -> Any:
        return type("Device", (), {"attributes": {"L2CacheSize": 50 << 20}})()

    def empty(self, count: int, dtype: str) -> Any:
        self.flushed = count
        return self

    def fill(self, value: int) -> None:
        self.log.append("flush")

    def get_elapsed_time(self, start: Any, stop: Any) -> float:
        return stop.time - start.time

    # the stream
    def __enter__(self) -> FakeGpu:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def begin_capture(self) -> None:
        self.capturing = True

    def end_capture(self) -> FakeGpu:
        self.capturing = False
        return self

    def launch(self, stream: Any) -> None:
        self.clock += 20 * 3.0

    def run(self) -> None:
        self.log.append("call")
        self.clock += 0.0 if self.capturing else 3.0


def test_gpu_runs_follow_a_flush_and_lie_between_events() -> None:
    gpu = FakeGpu()
    clock = timers.EventTimer(gpu, gpu)
    assert gpu.flushed == 256 << 20  # more than four times its L2 cache
    times = clock.measure(gpu.run, seconds=0.03)
    assert times == pytest.approx([3e-3] * 10)
    assert gpu.log[0] == "call"  # not timed
    assert gpu.log[1:5] == ["flush", "event", "call", "event"]
    assert gpu.log.count("flush") == gpu.log.count("call") - 1 == 12
    assert clock.resident(gpu.run) == pytest.approx(3e-3)
    assert gpu.log[-30:-10] == ["call"] * 20


def test_a_call_that_cannot_be_captured_has_no_resident_time() -> None:
    gpu = FakeGpu()

    def reads_back() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    assert timers.EventTimer(gpu, gpu).resident(reads_back) is None
    assert not gpu.capturing


# What torch takes from its own forward pass is drawn freely in our calls, or it draws its own mask.
_OWN_INPUTS = {"dropout", "max_pool_backward 2x2", "attention_backward", "SGD with momentum", "Adam"}
_OWN_INPUTS |= {"RMSprop", *(kernel.name for kernel in TINY if "norm_backward" in kernel.name)}


@needs_torch
@pytest.mark.parametrize("kernel", [k for k in TINY if k.name not in _OWN_INPUTS], ids=lambda k: k.name)
def test_peer_does_the_same(kernel: Kernel, reference: Any) -> None:
    from fp16engine.bench import torch_kernels

    setting = Setting("cpu", Precision.get("fp32"))
    given = kernel.inputs(setting)
    theirs = torch_kernels.Peers("cpu").prepare(kernel, given, setting)
    assert theirs is not None, "no peer"
    got = theirs()
    ours = kernel.prepare(reference, bench.on_device(reference, given), setting)()
    if isinstance(ours, bool):
        assert got == ours
        return
    got = got if isinstance(got, tuple | list) else (got,)
    got = [y for y in got if y is not None]
    for y, expected in zip(got, _returned(ours), strict=False):
        host = y.detach().numpy()
        host = host.transpose(0, 2, 3, 1) if kernel.family != "attention" and host.ndim == 4 else host
        if kernel.name.startswith("max_pool") and host.dtype == np.int64:
            continue  # places of the image, ours are of the window
        scale = max(1.0, float(np.abs(expected).max()))
        tolerance = 100 * bounds.EPS["float16" if "16" in kernel.name else "float32"] * scale
        np.testing.assert_allclose(host.reshape(expected.shape), expected, rtol=0, atol=tolerance)


@needs_torch
def test_peer_is_timed_against_ours() -> None:
    result = bench.run(("tiny",), device="cpu", families=["pooling"], peer="torch", seconds=1e-4)
    assert result["peer"]["available"]
    assert all(row["peer"]["ratio"] == row["peer"]["us"] / row["us"] for row in result["kernels"])
    assert math.isfinite(result["kernels"][0]["peer"]["us"])


def test_the_document_prints_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text(encoding="utf-8")
    assert kernel_cases.markdown() in text, "docs/kernels.md: run the command in its comment again"
