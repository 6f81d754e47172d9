"""Arrays of other GPU libraries become tensors, and tensors become theirs, in stream order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.backend.gpu.cuda import CudaBackend


class Foreign:
    """An array of another library on the GPU, by one protocol or both."""

    def __init__(self, array: np.ndarray, gpu: Any, index: int = 0) -> None:
        self.array, self.index = array, index
        self.told: list[Any] = []
        if gpu is not None:
            self.__cuda_array_interface__ = {**array.__array_interface__, "version": 3, "stream": 7}

    def __dlpack__(self, **options: Any) -> Any:
        self.told.append(options.get("stream"))
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.index


class OnlyInterface:
    def __init__(self, array: np.ndarray) -> None:
        self.__cuda_array_interface__ = {**array.__array_interface__, "version": 3, "stream": 7}
        self.array = array


@pytest.mark.parametrize("device", ["cuda:0", None])
def test_dlpack_comes_in(cuda: Any, gpu: Any, monkeypatch: pytest.MonkeyPatch, device: str | None) -> None:
    monkeypatch.setitem(fe.backend._loaded, "cuda:0", cuda)
    foreign = Foreign(np.arange(6, dtype=np.float16).reshape(2, 3), None)
    t = fe.tensor(foreign, device=device)
    assert (t.device, t.dtype, t.shape) == ("cuda:0", "float16", (2, 3))
    # the producer was told the engine's stream, so that its work is done before the copy begins
    assert foreign.told == [cuda.stream.ptr]
    foreign.array[:] = 7  # the producer's memory is the producer's again
    assert t.numpy().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_arrays_of_a_gpu_that_is_not_the_current_one(
    cuda: Any, gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CudaBackend(gpu.Native(), gpu, 1, "cuda:1")
    monkeypatch.setattr(
        fe.backend, "_loaded", {**fe.backend._loaded, "cuda": cuda, "cuda:0": cuda, "cuda:1": other}
    )
    t = fe.tensor(Foreign(np.arange(3, dtype=np.float16), None, index=1))
    here = fe.tensor([1.0], "float16", "cuda")
    assert t.device == "cuda:1"
    gpu.runtime.setDevice(0)  # another library's choice
    t.__dlpack__(stream=5)
    assert gpu.log[-1] == ("dlpack", other.stream, 5)
    assert t.__cuda_array_interface__["stream"] == other.stream.ptr
    assert (t + t).numpy().tolist() == [0, 2, 4]
    gpu.runtime.setDevice(1)
    assert (here + here).numpy().tolist() == [2]


def test_array_interface_comes_in(cuda: Any, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fe.backend._loaded, "cuda:0", cuda)
    t = fe.tensor(OnlyInterface(np.ones(3, np.float32)))
    assert (t.device, t.numpy().tolist()) == ("cuda:0", [1, 1, 1])
    assert ("asarray", cuda.stream) in gpu.log


@pytest.mark.parametrize(
    ("given", "dtype", "expected"),
    [
        ("float32", "float16", "float16"),
        ("float16", "float32", "float32"),
        ("float64", None, "float32"),
        ("int32", None, "int64"),
        ("int64", "float16", "float16"),
        ("uint8", "int64", "int64"),
    ],
)
def test_other_types_are_converted(
    cuda: Any, monkeypatch: pytest.MonkeyPatch, given: str, dtype: str | None, expected: str
) -> None:
    monkeypatch.setitem(fe.backend._loaded, "cuda:0", cuda)
    t = fe.tensor(Foreign(np.arange(4).astype(given), None), dtype=dtype, device="cuda:0")
    assert (t.dtype, t.numpy().tolist()) == (expected, [0, 1, 2, 3])


def test_to_another_device(cuda: Any, cpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fe.backend._loaded, "cuda:0", cuda)
    t = fe.tensor(Foreign(np.arange(3, dtype=np.float32), None), device="cpu")
    assert (t.device, t.numpy().tolist()) == ("cpu", [0, 1, 2])


def test_gpu_data_without_a_gpu_says_what_is_missing() -> None:
    with pytest.raises(fe.BackendUnavailable, match="cuda:3"):
        fe.tensor(Foreign(np.ones(1, np.float32), None, index=3))


def test_tensors_go_out_in_stream_order(cuda: Any, gpu: Any) -> None:
    t = fe.tensor([1.0, 2.0], "float16", "cuda")
    assert t.__dlpack_device__() == (2, 0)
    t.__dlpack__(stream=77)
    assert gpu.log[-1] == ("dlpack", cuda.stream, 77)
    interface = t.__cuda_array_interface__
    assert interface["stream"] == cuda.stream.ptr and interface["typestr"] == "<f2"
    assert gpu._current == [None]


def test_host_tensors_have_no_cuda_array_interface(backend_name: str) -> None:
    if backend_name == "cuda":
        pytest.skip("a host's tensors are meant")
    t = fe.tensor([1.0], device=backend_name)
    assert not hasattr(t, "__cuda_array_interface__")
    assert np.from_dlpack(t).tolist() == [1.0]
