"""A GPU made of the simulator: what the CUDA backend uses of CuPy, over NumPy, and a module like _cuda.

So that the backend's own code runs on any machine. Kernels are those of `_simt`, products those of the
fake cuBLASLt (csrc/testing/fake_cuda), convolutions those of `_cpu`; `Stream` and `Graph` record and replay
through the simulator. As on a GPU, work is put on a stream and done when someone waits for it, freed memory
serves the next who asks, a stream is entered on its own device only, and nothing is allocated in a capture.
What a test wants to know is in `log`. Several threads may call, as they may call CUDA; NCCL is in
fake_nccl.py.
"""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from fp16engine import _cpu, _simt
from fp16engine.backend.gpu.simt import _borrowed

ALIGNMENT = 256
NOT_YET = object()  # of work on a stream that waits for another process
log: list[tuple[Any, ...]] = []
guard = threading.RLock()  # of everything that is under way


class CUDARuntimeError(RuntimeError):
    pass


class UnownedMemory:
    def __init__(self, ptr: int, size: int, owner: Any, device_id: int = -1) -> None:
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id


class MemoryPointer:
    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.ptr = mem, mem.ptr + offset


class OutOfMemoryError(MemoryError):
    pass


def _not_recording(what: str) -> None:
    with guard:  # another thread records each of its launches for a moment
        assert not _simt.recording(), what


class _Block:
    """Memory of a device, which outlives those who hold it."""

    def __init__(self, nbytes: int) -> None:
        self.memory = np.full(nbytes + ALIGNMENT, 0xFF, np.uint8)
        address = self.memory.__array_interface__["data"][0]
        self.start = -address % ALIGNMENT
        self.ptr, self.size = address + self.start, nbytes
        blocks.add(self)

    def spoil(self) -> None:
        self.memory[self.start : self.start + self.size] = 0xFF


blocks: weakref.WeakSet[_Block] = weakref.WeakSet()


class _Lease:
    """Holds a block of a pool until it is garbage."""

    def __init__(self, block: _Block) -> None:
        self.ptr, self.size = block.ptr, block.size


class MemoryPool:
    def __init__(self) -> None:
        self.total = self.allocations = 0
        self.fails_at = 0  # the allocation that finds no room, 1 for the next one
        self._free: dict[int, list[_Block]] = {}

    def malloc(self, nbytes: int) -> MemoryPointer:
        self.allocations += 1
        if self.allocations == self.fails_at:
            raise OutOfMemoryError("out of memory")
        _not_recording("an allocation in a capture")
        log.append(("malloc", nbytes))
        with guard:
            free = self._free.get(nbytes)
            if free:
                block = free.pop()
                _put(block.spoil)  # in its turn: what was started before may still work there
            else:
                block = _Block(nbytes)
                self.total += nbytes
        lease = _Lease(block)
        weakref.finalize(lease, self._give_back, block).atexit = False
        return MemoryPointer(lease, 0)

    def _give_back(self, block: _Block) -> None:
        self._free.setdefault(block.size, []).append(block)

    def total_bytes(self) -> int:
        return self.total

    def free_all_blocks(self) -> None:
        log.append(("free", self))
        for stream in list(_launches.values()):  # freeing memory waits for the device
            stream._run()
        self.total -= sum(size * len(blocks) for size, blocks in self._free.items())
        self._free.clear()


class PinnedMemoryPointer(np.ndarray):
    """Has a buffer, as CuPy's."""


class PinnedMemoryPool:
    """Page-locked memory: when it is let go, others may write to it, and so it is filled with rubbish."""

    def __init__(self) -> None:
        self.blocks: dict[int, list[np.ndarray]] = {}

    def malloc(self, nbytes: int) -> PinnedMemoryPointer:
        free = self.blocks.setdefault(nbytes, [])
        block = free.pop() if free else np.full(nbytes, 0xFF, np.uint8)
        pointer = block.view(PinnedMemoryPointer)
        locked[block.__array_interface__["data"][0]] = block
        weakref.finalize(pointer, self._free, block)
        log.append(("pinned", nbytes))
        return pointer

    def _free(self, block: np.ndarray) -> None:
        del locked[block.__array_interface__["data"][0]]
        block.fill(0xFF)
        self.blocks[block.nbytes].append(block)


locked: dict[int, np.ndarray] = {}  # by address, the memory that is in use
in_flight: list[tuple[np.ndarray, bytes]] = []  # what the GPU has yet to fetch, and what it is to find there


class _Pointer:
    def __init__(self, ptr: int) -> None:
        self.ptr = ptr

    def copy_from_device_async(self, source: _Pointer, nbytes: int, stream: Stream) -> None:
        log.append(("memcpy", stream, nbytes))
        stream._put(partial(ctypes.memmove, self.ptr, source.ptr, nbytes))


class ndarray(np.ndarray):
    def __new__(cls, shape: Any, dtype: Any, memptr: MemoryPointer | None = None) -> ndarray:
        count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        assert memptr is not None and count <= memptr.mem.size
        buffer = (ctypes.c_char * max(count, 1)).from_address(memptr.ptr)
        buffer.kept = memptr.mem
        return np.ndarray.__new__(cls, shape, dtype, buffer)

    @property
    def data(self) -> Any:
        return _Pointer(self.__array_interface__["data"][0])

    def set(self, a: np.ndarray, stream: Stream) -> None:
        assert a.dtype == self.dtype and a.shape == self.shape
        _not_recording("a copy from the host in a capture")
        block = locked.get(a.__array_interface__["data"][0])
        log.append(("set", stream, "from the host" if block is None else "from pinned memory"))
        target, values = _borrowed(self), np.array(a)
        entry = None if block is None else (block[: a.nbytes], a.tobytes())
        if entry is not None:
            in_flight.append(entry)

        def fetch() -> None:
            if entry is not None:
                assert entry[0].tobytes() == entry[1], "memory was written to before the GPU had fetched it"
                in_flight[:] = [other for other in in_flight if other is not entry]
            target[...] = values

        stream._put(fetch)

    def get(self, stream: Stream, out: np.ndarray | None = None) -> np.ndarray:
        _not_recording("a copy to the host in a capture")
        log.append(("get", stream))
        host = np.empty(self.shape, self.dtype) if out is None else out
        source = _borrowed(self)
        stream._put(lambda: np.copyto(host, source))
        if out is None:
            stream._run()
        return host

    def __dlpack_device__(self) -> tuple[int, int]:  # type: ignore[override]
        return 2, 0

    def __dlpack__(self, **options: Any) -> Any:
        log.append(("dlpack", _current[-1], options.get("stream")))
        return np.asarray(self).__dlpack__()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.__array_interface__, "version": 3, "stream": getattr(_current[-1], "ptr", 1)}


_devices = [0]  # the current one is the last
_current: list[Any] = [None]
_streams: dict[int, Stream] = {}  # by handle
_launches: dict[int, Stream] = {}  # by device, the stream on which the module launches


class Stream:
    """Work in order, which is done when someone waits for it."""

    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking, "a stream that waits for the default one"
        self.ptr, self.device = 1001 + len(_streams), _devices[-1]
        self._work: list[Callable[[], object]] = []
        _streams[self.ptr] = self

    def __enter__(self) -> Stream:
        assert self.device == _devices[-1], f"a stream of device {self.device} on device {_devices[-1]}"
        _current.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _current.pop()

    def _put(self, work: Callable[[], object]) -> None:
        self._work.append(work)

    def _run(self) -> None:
        while not self._advance():
            time.sleep(1e-3)

    def _advance(self) -> bool:
        """Do what can be done now; whether that was everything."""
        with guard:
            while self._work:
                if self._work[0]() is NOT_YET:
                    return False
                self._work.pop(0)
            return True

    def wait_event(self, event: Event) -> None:
        self._put(lambda: event.done or NOT_YET)

    def synchronize(self) -> None:
        _not_recording("a capture waits for nothing")
        log.append(("synchronize", self))
        self._run()

    def begin_capture(self) -> None:
        assert self.device == _devices[-1], "a capture on another device's stream"
        _simt.begin_recording()

    def end_capture(self) -> Graph:
        if not _simt.recording():
            raise CUDARuntimeError("no capture")
        return Graph(_simt.end_recording())


def _put(work: Callable[[], object]) -> None:
    """On the stream of the current device, once there is one."""
    if _devices[-1] in _launches:
        _launches[_devices[-1]]._put(work)
    else:
        work()


class Graph:
    made: dict[int, Graph] = {}  # noqa: RUF012

    def __init__(self, recording: Any) -> None:
        self.recording, self.graph = recording, len(Graph.made) + 1
        Graph.made[self.graph] = self

    def upload(self, stream: Stream) -> None:
        log.append(("upload", stream))

    def launch(self, stream: Stream) -> None:
        log.append(("launch", stream))
        assert stream.device == _devices[-1], "a graph launched on another device's stream"
        stream._put(self.recording.replay)


class Event:
    """The time at which a stream comes to it; on the host's clock."""

    def __init__(self, disable_timing: bool = False) -> None:
        self.time: float | None = None

    def record(self, stream: Stream) -> None:
        def now() -> None:
            self.time = time.perf_counter()

        self.stream = stream
        stream._put(now)

    @property
    def done(self) -> bool:
        self.stream._advance()
        return self.time is not None

    def synchronize(self) -> None:
        self.stream.synchronize()


def get_elapsed_time(start: Event, stop: Event) -> float:
    assert start.time is not None and stop.time is not None, "nobody has waited for the events"
    return 1e3 * (stop.time - start.time)


class Device:
    compute_capability = "90"
    attributes = {"L2CacheSize": 0}  # noqa: RUF012

    def __init__(self, index: int = 0) -> None:
        self.index = index

    def __enter__(self) -> Device:
        _devices.append(self.index)
        return self

    def __exit__(self, *exc: object) -> None:
        _devices.pop()


def _set_device(index: int) -> None:
    log.append(("device", index))
    _devices[-1] = index


runtime = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    setDevice=_set_device,
    getDevice=lambda: _devices[-1],
    getDeviceCount=lambda: 2,
    getDeviceProperties=lambda index: {"name": b"Made of NumPy"},
)
cuda = SimpleNamespace(
    Device=Device,
    Event=Event,
    MemoryPointer=MemoryPointer,
    MemoryPool=MemoryPool,
    PinnedMemoryPool=PinnedMemoryPool,
    Stream=Stream,
    UnownedMemory=UnownedMemory,
    get_elapsed_time=get_elapsed_time,
    runtime=runtime,
)
__version__ = "0"

_default_pool = MemoryPool()


def get_default_memory_pool() -> MemoryPool:
    return _default_pool


empty, moveaxis, broadcast_to = np.empty, np.moveaxis, partial(np.broadcast_to, subok=True)


def from_dlpack(data: Any) -> ndarray:
    """As CuPy: the producer is told the current stream of its device, and the memory is shared."""
    stream = _current[-1]
    assert stream is None or data.__dlpack_device__()[1] == stream.device
    capsule = data.__dlpack__(stream=getattr(stream, "ptr", None))
    log.append(("from_dlpack", stream))
    return np.from_dlpack(_Capsule(capsule)).view(ndarray)


def asarray(data: Any) -> ndarray:
    log.append(("asarray", _current[-1]))
    interface = dict(data.__cuda_array_interface__)
    interface.pop("stream")
    return np.asarray(SimpleNamespace(__array_interface__=interface)).view(ndarray)


class _Capsule:
    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


class Native:
    """The functions of fp16engine._cuda."""

    architectures = "80-real 90-real"

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        return partial(_launch, getattr(_simt, name))

    def set_stream(self, stream: int) -> None:
        log.append(("stream", stream))
        assert _streams[stream].device == _devices[-1]
        _launches[_devices[-1]] = _streams[stream]

    def set_library_path(self, name: str, path: str) -> None:
        self.paths[name] = path

    def set_memory_release(self, release: Callable[[], None]) -> None:
        _simt.fakes.set_memory_release(release)

    def workspace_bytes(self) -> int:
        return 4096

    def compute_capability(self) -> int:
        return 90

    def cublaslt_version(self) -> int:
        return 130000

    def cudnn_version(self) -> int:
        return 91900

    def set_autotune(self, enabled: bool) -> None:
        log.append(("autotune", enabled))

    def cudnn_device_properties(self) -> str:
        return '{"multiProcessorCount": 2}'

    def conv2d_implementations(self) -> list[str]:
        return ["a convolution"]

    def matmul_implementations(self) -> list[str]:
        return ["a product"]

    def graph_nodes(self, graph: int) -> int:
        return int(Graph.made[graph].recording.kernels)

    def matmul(self, *arguments: Any) -> None:
        self._product("matmul", arguments)

    def linear_weight_gradient(self, *arguments: Any) -> None:
        self._product("linear_weight_gradient", arguments)

    def scaled_product(self, *arguments: Any) -> None:
        self._product("scaled_product", arguments)

    def conv2d_forward(self, *arguments: Any) -> None:
        self._product("conv2d_forward", arguments)

    def conv2d_backward(self, *arguments: Any) -> None:
        self._product("conv2d_backward", arguments)

    def _product(self, name: str, arguments: tuple[Any, ...]) -> None:
        *rest, half, tf32 = arguments
        log.append((name, half, tf32))
        if hasattr(_simt.fakes, name):
            _launch(getattr(_simt.fakes, name), *arguments)
        else:
            _launch(_simt.perform, name, partial(getattr(_cpu, name), *map(_borrowed, rest), half))


def _device_of(array: np.ndarray) -> int | None:
    """Where its memory is; None for memory that came from elsewhere."""
    root: Any = array
    while isinstance(root, np.ndarray):
        root = root.base
    return getattr(getattr(root, "kept", None), "device_id", None)


def _launch(function: Callable[..., Any], *arguments: Any) -> Any:
    """Check the arguments of an operation now and do it when its turn comes on the stream."""
    with guard:
        return _launched(function, *arguments)


def _launched(function: Callable[..., Any], *arguments: Any) -> Any:
    for array in (one for one in arguments if isinstance(one, ndarray)):
        assert _device_of(array) in (_devices[-1], None), "an array of another device"
    if _simt.recording():
        return function(*arguments)
    stream = _launches[_devices[-1]]
    _simt.begin_recording()
    try:
        function(*arguments)
    except ValueError as error:
        if "was read back to the host" not in str(error):
            raise
    else:
        stream._put(_simt.end_recording().replay)
        return None
    finally:
        if _simt.recording():
            _simt.end_recording()
    stream._run()  # an operation that returns a value waits for it
    return function(*arguments)
