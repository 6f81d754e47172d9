"""The GPU's kernels on a simulator, for tests: slow, and an error where a GPU would go wrong quietly.

Matrix products and convolutions other than depthwise ones are libraries' on the GPU, except those with
binary16 accumulators. Here the products go through the GPU's own source and a fake of cuBLASLt
(csrc/testing/fake_cuda), and the convolutions are the CPU backend's.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from ...errors import BackendUnavailable
from ...floats import numpy_dtype
from ..base import Shape
from ..capabilities import Capabilities
from ..compiled import CompiledBackend
from ..compiled.host import HostArrays
from ..counter import CountedArrays
from .arena import ALIGNMENT, Arena
from .operations import GpuOperations
from .strict_gemm import StrictGemm


def load() -> SimtBackend:
    """Return a simulated GPU."""
    try:
        from ... import _cpu, _simt
    except ImportError as error:
        raise BackendUnavailable(
            f"device 'simt': the module fp16engine._simt is not built ({error}); "
            "it is for tests, see CONTRIBUTING.md: cmake -DFP16ENGINE_SIMT=ON"
        ) from error
    return SimtBackend(_simt, _cpu)


class SimtBackend(GpuOperations, CompiledBackend, HostArrays, CountedArrays):
    """Every operation of :class:`fp16engine.backend.base.Backend` by the kernels of the CUDA backend.

    A fault in a kernel raises `native.SimulationError`, a RuntimeError. Every array is an allocation of its
    own and starts as NaN, or as 255 in every byte.
    """

    name = "simt"
    capabilities = Capabilities(
        captured_steps=True,
        threads=True,
        attention_by_heads=True,
        relu_bias_sums=True,
        relu_grad_sums=True,
    )

    def __init__(self, native: ModuleType, gemm: ModuleType) -> None:
        super().__init__()
        self.native: Any = native
        self.gemm: Any = StrictGemm(native, _Libraries(gemm, native))
        # Elements by which arrays start off the alignment their allocation has.
        self.offset = 0

    def empty(self, shape: Shape, dtype: str | np.dtype) -> np.ndarray:
        dtype = numpy_dtype(dtype) if isinstance(dtype, str) else dtype
        count = int(np.prod(shape, dtype=np.int64))
        nbytes = (self.offset + count) * dtype.itemsize
        if self._arena is not None:
            return self._in_arena(self._arena, nbytes, shape, dtype)
        memory = np.full(nbytes, 0xFF, np.uint8)
        self._count_array(memory)
        if self._trace is not None:
            self._trace.watch(memory, self._trace.allocate(nbytes))
        return memory.view(dtype)[self.offset :].reshape(shape)

    def from_numpy(self, a: np.ndarray) -> np.ndarray:
        self._not_while_recording("a value came from the host")
        return super().from_numpy(a)

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        self._not_while_recording("a value was read back to the host")
        return super().to_numpy(x)

    def write(self, x: np.ndarray, a: np.ndarray) -> None:
        self._not_while_recording("a value came from the host")
        np.copyto(x, a)

    def synchronize(self) -> None:
        """Nothing is under way here: a replay runs when it is started."""

    def set_schedule(self, schedule: int) -> None:
        """Choose the order in which a block's threads run: 0 fair, 1 and 2 greedy, from 3 on shuffled."""
        self.native.set_schedule(schedule)

    def set_num_threads(self, count: int) -> None:
        self.native.set_num_threads(count)
        self.gemm.set_num_threads(count)

    def _in_arena(self, arena: Arena, nbytes: int, shape: Shape, dtype: np.dtype) -> np.ndarray:
        number, start = arena.allocate(nbytes)
        # A memoryview between them: NumPy would make the arena itself the base of every view of this array.
        memory = memoryview(arena.memory)[start : start + nbytes]
        x: np.ndarray = np.ndarray(shape, dtype, memory, self.offset * dtype.itemsize)
        arena.watch(x, number)
        if x.size:
            self.native.poison(x)
        return x

    def _arena_memory(self, nbytes: int) -> np.ndarray:
        memory = np.full(nbytes + ALIGNMENT, 0xFF, np.uint8)
        self._count_array(memory)
        start = -self.address(memory) % ALIGNMENT
        return memory[start : start + nbytes]

    def _begin(self) -> None:
        self.native.begin_recording()

    def _end(self, failed: bool) -> Any:
        return self.native.end_recording()

    def _finished(self, graph: Any, arena: Arena) -> Recording:
        return Recording(graph, arena)


class Recording:
    """A recorded step on the simulated GPU."""

    def __init__(self, native: Any, arena: Arena) -> None:
        self._native, self._arena = native, arena
        self.arena_bytes = arena.plan.nbytes

    @property
    def kernels(self) -> int:
        """How many kernels, copies and memsets one replay runs."""
        count: int = self._native.kernels
        return count

    @property
    def names(self) -> list[str]:
        """Their names, in order."""
        return list(self._native.names)

    def replay(self) -> None:
        """Run the step once more."""
        self._native.replay()


def _borrowed(argument: Any) -> Any:
    """An array as a launch takes it: where it lies, without keeping its memory."""
    if not isinstance(argument, np.ndarray) or not argument.size:
        return argument
    memory = (ctypes.c_char * argument.nbytes).from_address(argument.__array_interface__["data"][0])
    return np.ndarray(argument.shape, argument.dtype, memory)


class _Libraries:
    """The products of the fake cuBLASLt; what else `library` has, put down in order in a recording."""

    def __init__(self, library: ModuleType, native: ModuleType) -> None:
        self._library, self._native = library, native

    def __getattr__(self, name: str) -> Callable[..., Any]:
        fakes = self._native.fakes
        product: Callable[..., Any] = getattr(fakes, name, None) or partial(self._perform, name, name)
        setattr(self, name, product)
        return product

    def conv2d_backward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        dy: np.ndarray,
        dx: np.ndarray | None,
        dw: np.ndarray | None,
        db: np.ndarray | None,
        *settings: Any,
    ) -> None:
        """A launch for each gradient, as cuDNN has it; the bias' is our own kernel's, as there."""
        gradient = partial(self._perform, "conv2d_backward")
        if dx is not None:
            gradient("conv2d_data_gradient", x, w, dy, dx, None, None, *settings)
        if dw is not None:
            gradient("conv2d_weight_gradient", x, w, dy, None, dw, None, *settings)
        if db is not None:
            *images, channels = dy.shape
            self._native.reduce("sum", dy, db, 1, math.prod(images), channels, settings[4])

    def _perform(self, function: str, name: str, *arguments: Any) -> None:
        """Call a function of the library, or put it down by that name."""
        call = getattr(self._library, function)
        if self._native.recording():
            self._native.perform(name, partial(call, *map(_borrowed, arguments)))
        else:
            call(*arguments)
