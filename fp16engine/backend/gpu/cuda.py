"""The CUDA backend: our own kernels, cuBLASLt and cuDNN on CuPy arrays, on one stream of their own.

Nothing of NVIDIA's is needed before the device is asked for: the compiled module imports anywhere,
CuPy and the libraries are loaded here.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from ...errors import BackendUnavailable
from ...floats import numpy_dtype
from ..base import Array, Shape
from ..capabilities import Capabilities
from ..compiled import CompiledBackend
from . import cuda_libraries, cuda_module
from .architectures import runs_on
from .arena import Arena
from .operations import GpuOperations
from .pinned import PinnedUploads
from .strict_gemm import StrictGemm

# The device whose stream the native module of this thread launches on.
_active = threading.local()


def load(device: str = "cuda") -> CudaBackend:
    """Return the backend of "cuda" (the first GPU) or "cuda:N".

    Raises:
        BackendUnavailable: names the one thing that is missing, and what brings it.
    """
    index = int(device.partition(":")[2] or 0)
    native = _module(device)
    cupy = _cupy(device)
    count = _gpus(device, cupy)
    if index >= count:
        raise BackendUnavailable(
            f"device must be one of 'cuda:0' to 'cuda:{count - 1}' on this machine, got {device!r}"
        )
    _fit(device, native, cupy, index)
    for name, path in cuda_libraries.preload().items():
        if name in ("cublasLt", "cudnn"):
            native.set_library_path(name, path)
    backend = CudaBackend(native, cupy, index, device)
    _allow_proven(backend)
    return backend


def _allow_proven(backend: CudaBackend) -> None:
    """Let binary16 sums be the libraries' where they were found to be that on this GPU, else our kernels'."""
    from . import accumulators  # not at the top: numerics looks at backends

    entries = accumulators.load()
    if entries:
        backend.library_halves = accumulators.proven(*accumulators.identify(backend), entries)


def gpus() -> int:
    """Return how many GPUs the engine can use: 0 where the module, CuPy, the driver or a GPU is missing."""
    try:
        native, cupy = _module("cuda"), _cupy("cuda")
        count = _gpus("cuda", cupy)
        _fit("cuda", native, cupy, 0)
        return count
    except BackendUnavailable:
        return 0


def driver_problem() -> str | None:
    """Return why there is no working NVIDIA driver here, or None. Asks the driver itself, not CuPy."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1) on this machine"
    status = driver.cuInit(0)
    if status == 100:
        return "the NVIDIA driver is there but finds no GPU"
    return (
        None if status == 0 else f"the NVIDIA driver is there but does not start (cuInit returned {status})"
    )


def _module(device: str) -> Any:
    try:
        return cuda_module.load()
    except ImportError as error:
        raise BackendUnavailable(
            f"device {device!r}: the CUDA module is not here ({error}); {cuda_module.BUILD}"
        ) from error


def _cupy(device: str) -> Any:
    problem = driver_problem()
    if problem is not None:
        raise BackendUnavailable(
            f"device {device!r}: {problem}; install NVIDIA's driver (580 or later for CUDA 13), or use 'cpu'"
        )
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise BackendUnavailable(
            f"device {device!r}: CuPy could not be imported ({error}); {cuda_libraries.INSTALL}"
        ) from error


def _gpus(device: str, cupy: Any) -> int:
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendUnavailable(
            f"device {device!r}: the CUDA runtime finds no GPU ({error}); is the driver as new as CUDA 13?"
        ) from error
    if count == 0:
        raise BackendUnavailable(f"device {device!r}: this machine has no GPU; use 'cpu'")
    return count


def _fit(device: str, native: Any, cupy: Any, index: int) -> None:
    capability = int(cupy.cuda.Device(index).compute_capability)
    if not runs_on(native.architectures, capability):
        raise BackendUnavailable(
            f"device {device!r}: the CUDA module was built for {native.architectures}, which this GPU of "
            f"compute capability {capability / 10} does not run; {cuda_module.BUILD}"
        )


class CudaBackend(GpuOperations, CompiledBackend):
    """Every operation of :class:`fp16engine.backend.base.Backend` on an NVIDIA GPU.

    Arrays are CuPy's, in memory of a CuPy pool of this backend. Everything runs in order on `stream`, which
    waits for no other stream and which no other waits for: arrays come in and go out through `import_array`,
    `exporting` and the host, which keep the order.
    """

    capabilities = Capabilities(
        captured_steps=True,
        tf32=True,
        info=True,
        implementations=True,
        stream=True,
        attention_by_heads=True,
        relu_bias_sums=True,
        relu_grad_sums=True,
    )
    library_halves = (
        False  # whether binary16 sums are the libraries', as accumulators.py knows; else our kernels'
    )

    def __init__(self, native: ModuleType, cupy: Any, index: int, name: str) -> None:
        self.name, self.xp, self.index = name, cupy, index
        self._module, self._device_now = native, cupy.cuda.runtime.getDevice
        self._current = self._peak = 0
        self._lock = threading.Lock()
        with cupy.cuda.Device(index):
            self._pool = cupy.cuda.MemoryPool()
            self.stream = cupy.cuda.Stream(non_blocking=True)
        self._uploads = PinnedUploads(cupy, index, self.stream)
        native.set_memory_release(_release_cached)

    @property
    def native(self) -> Any:  # type: ignore[override]
        """The compiled functions, which launch on this device and its stream from now on."""
        if getattr(_active, "backend", None) is not self or self._device_now() != self.index:
            self.xp.cuda.runtime.setDevice(self.index)
            self._module.set_stream(self.stream.ptr)
            _active.backend = self
        return self._module

    @property
    def gemm(self) -> Any:
        native = self.native
        return StrictGemm(native, native, self.library_halves)

    def compute(self, acc: str, x: Array) -> tuple[int, ...]:
        # cuBLASLt and cuDNN round float32 factors to TF32 where they are told to, halves never
        return self.dot_accumulator(acc, x), acc == "tf32" and x.dtype == np.float32

    # Arrays

    def empty(self, shape: Shape, dtype: str | np.dtype) -> Array:
        dtype = numpy_dtype(dtype) if isinstance(dtype, str) else np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        return self.xp.ndarray(tuple(shape), dtype, self._memory(max(nbytes, 1)))

    def _memory(self, nbytes: int) -> Any:
        """Device memory that is accounted for until the last array on it is gone."""
        cuda = self.xp.cuda
        if self._arena is not None:
            number, start = self._arena.allocate(nbytes)
            owner: Any = _Owner(self._arena.memory)
            self._arena.watch(owner, number)
            address = self._arena.memory.ptr + start
        else:
            with cuda.Device(self.index):
                block = self._pool.malloc(nbytes)
            owner = _Counted(self, block, nbytes)
            if self._trace is not None:
                self._trace.watch(owner, self._trace.allocate(nbytes))
            address = block.ptr
        return cuda.MemoryPointer(cuda.UnownedMemory(address, nbytes, owner, self.index), 0)

    @staticmethod
    def address(x: Array) -> int:
        address: int = x.data.ptr
        return address

    def from_numpy(self, a: np.ndarray) -> Array:
        x = self.empty(a.shape, a.dtype)
        self.write(x, a)
        return x

    def write(self, x: Array, a: np.ndarray) -> None:
        """Copy the host's values a into x, in the order of the stream; `a` may change afterwards."""
        self._not_while_recording("a value came from the host")
        if x.size:
            self._uploads.copy(x, a)

    def to_numpy(self, x: Array) -> np.ndarray:
        self._not_while_recording("a value was read back to the host")
        y = np.empty(x.shape, x.dtype)
        if x.size:
            x.get(stream=self.stream, out=y)
            self.synchronize()
        return y

    def synchronize(self) -> None:
        """Wait until everything that was started is done."""
        self._uploads.synchronize()

    # Other libraries' arrays

    def import_array(self, data: Any) -> Array | None:
        """Return a copy of another library's array on this GPU, or None for a type tensors do not have.

        The copy waits for the work the other library has started on its own stream.
        """
        found = self._borrowed(data)
        if str(found.dtype) not in ("float16", "float32", "int64"):
            return None
        copied = self.copy(found)
        self.synchronize()  # the other library may use its memory for something else once `found` is gone
        return copied

    def read_array(self, data: Any) -> np.ndarray:
        """Return the values of another library's array on the host, whatever their type."""
        found = self._borrowed(data)
        host: np.ndarray = found.get(stream=self.stream)
        self.synchronize()
        return host

    def _borrowed(self, data: Any) -> Array:
        with self.exporting():  # CuPy orders its current stream behind the producer's
            return self.xp.from_dlpack(data) if hasattr(data, "__dlpack__") else self.xp.asarray(data)

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Inside the block CuPy hands arrays to other libraries in the order of this backend's stream."""
        with self.xp.cuda.Device(self.index), self.stream:  # a stream is entered on its own device only
            yield

    # Accounts

    def memory(self) -> dict[str, int]:
        scratch = int(self.native.workspace_bytes())
        return {
            "current": self._current + scratch,
            "peak": self._peak + scratch,
            "scratch": scratch,
            "reserved": int(self._pool.total_bytes()),
        }

    def reset_peak(self) -> None:
        self._peak = self._current

    def _count(self, nbytes: int) -> None:
        with self._lock:
            self._current += nbytes
            self._peak = max(self._peak, self._current)

    def info(self) -> dict[str, object]:
        """GPU, compute capability, and the libraries in use."""
        properties = self.xp.cuda.runtime.getDeviceProperties(self.index)
        name = properties["name"]
        return {
            "gpu": name.decode() if isinstance(name, bytes) else name,
            "compute_capability": self.native.compute_capability() / 10,
            "cublaslt": self.native.cublaslt_version(),
            "cudnn": self.native.cudnn_version(),
            "cupy": self.xp.__version__,
        }

    def implementations(self) -> list[str]:
        """One line per distinct convolution and matrix product run so far: shape, compute type, algorithm."""
        return [*self.native.conv2d_implementations(), *self.native.matmul_implementations()]

    # Recording

    def _arena_memory(self, nbytes: int) -> Any:
        return self._memory(max(nbytes, 1))

    def _begin(self) -> None:
        self.native  # noqa: B018  the stream is set before it is captured
        self.stream.begin_capture()

    def _end(self, failed: bool) -> Any:
        if not failed:
            return self.stream.end_capture()
        with suppress(self.xp.cuda.runtime.CUDARuntimeError):  # an operation may have ended it already
            self.stream.end_capture()
        return None

    def _finished(self, graph: Any, arena: Arena) -> Recording:
        nodes = partial(self.native.graph_nodes, int(graph.graph))
        graph.upload(self.stream)
        return Recording(graph, arena, self, int(nodes()))


def _release_cached() -> None:
    """Give the GPU what CuPy keeps for later, since a workspace found no room; its operation calls this."""
    backend = _active.backend
    for pool in (backend._pool, backend.xp.get_default_memory_pool()):
        pool.free_all_blocks()


class Recording:
    """A captured CUDA graph with the memory it works in."""

    def __init__(self, graph: Any, arena: Arena, backend: CudaBackend, kernels: int) -> None:
        self._graph, self._arena, self._backend = graph, arena, backend
        self.kernels = kernels
        self.arena_bytes = arena.plan.nbytes

    def replay(self) -> None:
        """Put one run of the step on the stream; does not wait for it."""
        self._backend.native  # noqa: B018  its device is the current one
        self._graph.launch(self._backend.stream)


class _Owner:
    """A slot in an arena; keeps the arena's memory."""

    __slots__ = ("__weakref__", "_memory")

    def __init__(self, memory: Any) -> None:
        self._memory = memory


class _Counted:
    """Keeps a block of the pool, and takes it off the account in the end."""

    __slots__ = ("__weakref__", "_backend", "_block", "_nbytes")

    def __init__(self, backend: CudaBackend, block: Any, nbytes: int) -> None:
        self._backend, self._block, self._nbytes = backend, block, nbytes
        backend._count(nbytes)

    def __del__(self) -> None:
        self._backend._count(-self._nbytes)
