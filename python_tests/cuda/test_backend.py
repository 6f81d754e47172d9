"""Arrays, streams, accounts and products of the CUDA backend."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import bounds
import numpy as np
import pytest
from op_case import Case, arrays, call
from op_cases import CASES

import fp16engine as fe
from fp16engine.backend.gpu import pinned
from fp16engine.backend.gpu.cuda import CudaBackend

# One case of every operation and accumulator is enough here: the kernels have their tests on "simt".
FIRST = {(case.method, case.accumulates): case for case in reversed(CASES)}.values()


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in FIRST])
def test_every_operation_as_on_the_simulator(cuda: Any, case: Case) -> None:
    for acc in ("float32", "float16") if case.accumulates else ("float32",):
        inputs = arrays(case, "normal" if "normal" in case.ranges else case.ranges[0], case.storage[0])
        for got, expected in zip(
            call(cuda, case, inputs, acc), call(fe.backend.get("simt"), case, inputs, acc), strict=True
        ):
            assert (got is None) == (expected is None)
            if got is not None and expected is not None:
                bounds.same_bits(got, expected)


def test_everything_is_on_one_stream(cuda: Any, gpu: Any) -> None:
    x = cuda.from_numpy(np.ones((2, 3), np.float16))
    cuda.to_numpy(cuda.binary("add", x, x))
    streams = [entry[1] for entry in gpu.log if entry[0] in ("set", "get", "synchronize")]
    assert streams and all(stream is cuda.stream for stream in streams)
    assert ("device", 0) in gpu.log and ("stream", cuda.stream.ptr) in gpu.log
    # a copy to the host is waited for before anyone reads it
    kinds = [entry[0] for entry in gpu.log]
    assert kinds[kinds.index("get") :] == ["get", "synchronize"]


def test_values_wait_in_pinned_memory_until_the_gpu_has_them(
    cuda: Any, gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = np.arange(300, dtype=np.float16)
    arrays = []
    for i in range(5):
        arrays.append(cuda.from_numpy(host + i))
        cuda.write(arrays[0], host[::-1])
    host[:] = 0
    kinds = [entry[0] for entry in gpu.log]
    assert "synchronize" not in kinds and kinds.count("set") == len(gpu.in_flight) == 10
    assert all(entry[2] == "from pinned memory" for entry in gpu.log if entry[0] == "set")
    assert {entry[1] for entry in gpu.log if entry[0] == "pinned"} == {1024}  # few sizes
    cuda.synchronize()  # where the GPU looks for what it was to fetch
    assert not gpu.in_flight and not gpu.locked
    np.testing.assert_array_equal(cuda.to_numpy(arrays[4]), np.arange(4, 304, dtype=np.float16))
    np.testing.assert_array_equal(cuda.to_numpy(arrays[0]), np.arange(299, -1, -1, dtype=np.float16))
    # no more than so much at a time, and what is larger does not go through it
    monkeypatch.setattr(pinned, "LARGEST", 2048)
    gpu.log.clear()
    for size in (512, 512, 512, 4000):
        cuda.from_numpy(np.ones(size, np.float16))
    kinds = [entry[0] for entry in gpu.log if entry[0] != "malloc"]
    assert kinds == ["pinned", "set", "pinned", "set", "synchronize", "pinned", "set", "set"]
    assert gpu.log[-1][2] == "from the host"


def test_two_gpus_take_turns(cuda: Any, gpu: Any) -> None:
    other = CudaBackend(gpu.Native(), gpu, 1, "cuda:1")
    gpu.log.clear()
    for backend in (cuda, cuda, other, cuda):
        backend.zeros((3,), "float32")
    turns = [entry for entry in gpu.log if entry[0] in ("device", "stream")]
    expected = [(0, cuda), (1, other), (0, cuda)]
    assert turns == [e for index, b in expected for e in (("device", index), ("stream", b.stream.ptr))]


def test_a_recording_runs_on_its_own_gpu(cuda: Any, gpu: Any) -> None:
    other = CudaBackend(gpu.Native(), gpu, 1, "cuda:1")
    x, here = other.zeros((3,), "float16"), cuda.zeros((3,), "float16")
    step = partial(other._fill, x, 4.0)
    recording = other.recorded(other.traced(step), step)
    other._fill(x, 0.0)
    cuda._fill(here, 1.0)  # and now the first GPU is the current one
    recording.replay()
    assert other.to_numpy(x).tolist() == [4, 4, 4] and cuda.to_numpy(here).tolist() == [1, 1, 1]
    with pytest.raises(AssertionError, match="an array of another device"):  # the fake would see it
        cuda._fill(x, 0.0)


def test_memory_is_counted_until_the_last_view_is_gone(cuda: Any) -> None:
    before = cuda.memory()
    assert before["scratch"] == 4096 and before["current"] >= before["scratch"]
    x = cuda.zeros((10, 10), "float16")
    view = x.reshape(100)[3:]
    del x
    gc.collect()
    assert cuda.memory()["current"] - before["current"] == 200
    del view
    gc.collect()
    assert cuda.memory()["current"] == before["current"]
    assert cuda.memory()["peak"] - before["current"] == 200
    cuda.reset_peak()
    assert cuda.memory()["peak"] == before["current"]
    assert cuda.memory()["reserved"] >= 200


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int64"])
def test_to_the_device_and_back(cuda: Any, shape: tuple[int, ...], dtype: str) -> None:
    host = np.asarray(np.arange(np.prod(shape)).reshape(shape), dtype)
    x = cuda.from_numpy(host)
    assert isinstance(x, cuda.xp.ndarray) and x.shape == shape
    back = cuda.to_numpy(x)
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, host)


def test_info_and_implementations(cuda: Any) -> None:
    assert cuda.info() == {
        "gpu": "Made of NumPy",
        "compute_capability": 9.0,
        "cublaslt": 130000,
        "cudnn": 91900,
        "cupy": "0",
    }
    assert cuda.implementations() == ["a convolution", "a product"]


@pytest.mark.parametrize("precision", ["tf32", "fp32", "fp16", "fp16-strict"])
def test_products_are_told_what_the_policy_says(cuda: Any, gpu: Any, precision: str) -> None:
    policy = fe.Precision.get(precision)
    fe.manual_seed(0)
    model = fe.nn.Sequential(
        fe.nn.Conv2d(3, 4, 3), fe.nn.GlobalAvgPool2d(), fe.nn.Flatten(), fe.nn.Linear(4, 2)
    ).to("cuda", policy)
    x = fe.tensor(np.ones((2, 6, 6, 3)), policy.storage, "cuda")
    gpu.log.clear()
    with policy.use():
        loss = (model(x) @ fe.tensor(np.ones((2, 1)), policy.storage, "cuda")).sum()
    loss.backward()  # outside the block: the policy of the forward pass counts
    products = [entry for entry in gpu.log if entry[0].startswith(("matmul", "linear", "conv2d", "scaled"))]
    if precision == "fp16-strict":  # our own kernels have the binary16 sums
        assert not products
        return
    expected = {"matmul", "linear_weight_gradient", "conv2d_forward", "conv2d_backward"}
    assert {entry[0] for entry in products} == expected
    assert {entry[1:] for entry in products} == {(False, precision == "tf32")}


def test_attention_of_long_sequences_too(cuda: Any, gpu: Any) -> None:
    with fe.Precision.get("tf32").use():
        q = fe.tensor(np.ones((1, 1, 130, 4)), "float32", "cuda", requires_grad=True)
        fe.functional.attention(q, q, q).sum().backward()
    told = {entry for entry in gpu.log if entry[0] in ("matmul", "scaled_product")}
    assert told == {("matmul", False, True), ("scaled_product", False, True)}


def test_audit_shows_tf32(cuda: Any) -> None:
    from fp16engine.numerics.audit import Audit

    with Audit() as audit, fe.Precision.get("tf32").use():
        x = fe.tensor(np.ones((2, 2)), "float32", "cuda")
        (x @ x).sum()
    assert {row.op: row.accumulator for row in audit.rows if row.accumulator != "none"} == {
        "matmul": "tf32",
        "sum": "float32",
    }


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_no_tf32_elsewhere(cpu: Any, device: str) -> None:
    expected = pytest.raises(fe.UnsupportedPrecision, match="'tf32' needs the tensor cores of a CUDA device")
    model = fe.nn.Sequential(fe.nn.Linear(2, 2))
    with expected:
        fe.Trainer(model, precision="tf32", device=device)
    with expected:
        model.to(device, "tf32")
    x: Any = fe.tensor([[1.0]], device=device)
    with fe.Precision.get("tf32").use():
        assert (x + x).item() == 2
        with expected:
            x @ x
        with expected:
            fe.functional.linear(x, x)
        with expected:
            fe.functional.conv2d(x.reshape(1, 1, 1, 1), x.reshape(1, 1, 1, 1))
        with expected:
            fe.functional.attention(*[x.reshape(1, 1, 1, 1)] * 3)


def test_tf32_says_its_choices() -> None:
    words = fe.Precision.get("tf32").describe()
    assert (words["storage"], words["operand"]) == ("binary32 (FP32)", "TF32")
    assert "tf32" not in fe.Precision.names()
    with pytest.raises(fe.UnsupportedPrecision, match=r"operand must .* got 'tf32'"):
        fe.Precision("mine", "float16", "tf32", "float32", "float16")


def test_cupys_cache_makes_room_for_a_workspace(cuda: Any, gpu: Any) -> None:
    from fp16engine import _simt

    cuda.zeros((3,), "float32")
    gpu.log.clear()
    _simt.fakes.set_device(99)
    _simt.fakes.plan_fault("cudaMalloc", 1, 1, 2)
    try:
        _simt.fakes.library_workspace(100)
    finally:
        _simt.fakes.forget()
        _simt.fakes.set_device(0)
    assert gpu.log == [("free", cuda._pool), ("free", gpu.get_default_memory_pool())]


def test_the_copy_that_rates_go_by_is_the_drivers(cuda: Any, gpu: Any) -> None:
    """Our own kernel is one of those that are held against it."""
    from fp16engine.bench.timers import device_copy

    x = cuda.from_numpy(np.arange(300, dtype=np.float16))
    copy = device_copy(cuda, x)
    gpu.log.clear()
    copy()
    assert gpu.log == [("memcpy", cuda.stream, 600)]
