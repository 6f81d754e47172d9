"""What the CUDA backend uses of CuPy is in the CuPy that is installed, as it is used; no GPU is needed."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest

cupy: Any = pytest.importorskip("cupy", exc_type=ImportError)


def _public(names: Any) -> list[str]:
    return [name for name in vars(names) if not name.startswith("_")]


def test_whatever_the_fake_offers_is_cupys(gpu: Any) -> None:
    """Else a test on the fake would pass with what no GPU has."""
    compared = 0
    for name in _public(gpu.cuda):
        real, fake = getattr(cupy.cuda, name), getattr(gpu.cuda, name)
        for member in _public(fake):
            assert hasattr(real, member), f"cupy.cuda.{name}.{member}"
            compared += 1
    for member in ("data", "set", "get"):
        assert member in vars(gpu.ndarray) and hasattr(cupy.ndarray, member)
    for name in (
        "from_dlpack",
        "asarray",
        "get_default_memory_pool",
        "moveaxis",
        "broadcast_to",
        "__version__",
    ):
        assert hasattr(gpu, name) and hasattr(cupy, name)
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError) and compared > 10


# As the engine calls them: cython's functions say their arguments in the first line of their documentation.
CALLS = {
    "cuda.UnownedMemory": ["ptr", "size", "owner", "device_id"],
    "cuda.MemoryPointer": ["mem", "offset"],
    "cuda.MemoryPointer.copy_from_device_async": ["src", "size", "stream"],
    "cuda.MemoryPool.malloc": ["size"],
    "cuda.PinnedMemoryPool.malloc": ["size"],
    "cuda.Graph.launch": ["stream"],
    "cuda.Graph.upload": ["stream"],
    "cuda.Stream.wait_event": ["event"],
    "cuda.Event.record": ["stream"],
    "cuda.runtime.setDevice": ["device"],
    "cuda.runtime.getDeviceProperties": ["device"],
    "ndarray.set": ["arr", "stream"],
    "ndarray.get": ["stream", "order", "out"],
}


NCCL_CALLS = {
    "NcclCommunicator": ["ndev", "commId", "rank"],
    "NcclCommunicator.send": ["sendbuf", "count", "datatype", "peer", "stream"],
    "NcclCommunicator.recv": ["recvbuf", "count", "datatype", "peer", "stream"],
    "NcclCommunicator.abort": [],
    "NcclCommunicator.check_async_error": [],
    "groupStart": [],
    "groupEnd": [],
}


def test_nccl_is_what_its_fake_is(gpu: Any) -> None:
    import fake_nccl

    nccl: Any = importlib.import_module("cupy.cuda.nccl")
    if not nccl.available:
        pytest.skip("needs NCCL: pip install nvidia-nccl-cu13")
    for name, arguments in NCCL_CALLS.items():
        assert _arguments(nccl, name)[: len(arguments)] == arguments
    assert issubclass(nccl.NcclError, RuntimeError)
    assert nccl.NCCL_UINT8 == fake_nccl.NCCL_UINT8
    real, fake = nccl.get_unique_id(), fake_nccl.get_unique_id()
    assert type(real) is type(fake) and len(real) == len(fake)


@pytest.mark.parametrize("name", CALLS)
def test_arguments_are_in_the_order_in_which_they_are_given(name: str) -> None:
    assert _arguments(cupy, name)[: len(CALLS[name])] == CALLS[name]


def _arguments(found: Any, name: str) -> list[str]:
    for part in name.split("."):
        found = getattr(found, part)
    first = (inspect.getdoc(found) or "").splitlines()[0]
    declared = re.search(r"\((.*)\)", first)
    assert declared is not None, first
    names = [re.split(r"[ =]", one.split("=")[0].strip())[-1].strip("*") for one in declared[1].split(",")]
    return [one for one in names if one not in ("self", "")]


def test_arrays_lie_where_they_are_told_to() -> None:
    """Addresses and strides, of memory that nobody reads, are all that the engine takes from CuPy."""
    owner = object()
    memory = cupy.cuda.UnownedMemory(0x10000, 4096, owner, 0)
    x = cupy.ndarray((3, 4), "float16", cupy.cuda.MemoryPointer(memory, 256))
    assert (x.data.ptr, x.strides, x.nbytes) == (0x10100, (8, 2), 24)
    assert x[1:, ::2].data.ptr == 0x10108 and x[1:, ::2].strides == (8, 4)
    assert x.reshape(2, 6).data.ptr == x.data.ptr and x.reshape(-1).flags.c_contiguous
    assert cupy.moveaxis(x, 0, 1).strides == (2, 8)
    assert cupy.broadcast_to(x, (2, 3, 4)).strides == (0, 8, 2)
