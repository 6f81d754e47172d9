"""The CPU backend: compiled loops over NumPy arrays held in a caching pool.

Tensors are kept in the storage dtype; arithmetic is in float32 registers or, tile by tile, in cache-sized
float32 scratch, and is rounded once when it is stored. ``acc="float16"`` selects the kernels whose
accumulators are binary16 too.
"""

from __future__ import annotations

import os
from types import ModuleType

import numpy as np

from ..errors import BackendUnavailable
from ..floats import numpy_dtype
from ..validate import shown
from .base import Shape
from .capabilities import Capabilities
from .compiled import CompiledBackend
from .compiled.host import HostArrays

ISA = "FP16ENGINE_ISA"


def load() -> CpuBackend:
    """Return a CPU backend, with the instruction set that the environment variable FP16ENGINE_ISA names.

    Raises:
        BackendUnavailable: the compiled module is not there, or has no such instruction set for this machine.
    """
    try:
        from .. import _cpu
    except ImportError as error:
        raise BackendUnavailable(
            f"the compiled CPU module fp16engine._cpu could not be loaded ({error}); "
            "reinstall with 'pip install --force-reinstall fp16engine'"
        ) from error
    if requested := os.environ.get(ISA):
        try:
            _cpu.select_isa(requested)
        except ValueError:
            valid = "auto, avx512, avx2 or portable, as this build has and this processor runs"
            raise BackendUnavailable(f"{ISA} must be {valid}, got {shown(requested)}") from None
    return CpuBackend(_cpu)


class CpuBackend(CompiledBackend, HostArrays):
    """Every operation of :class:`fp16engine.backend.base.Backend` on the processor."""

    name = "cpu"
    capabilities = Capabilities(bfloat16=True, winograd=True, threads=True, multiply_adds=True, info=True)

    def __init__(self, native: ModuleType) -> None:
        self.native = self.gemm = native

    def empty(self, shape: Shape, dtype: str | np.dtype) -> np.ndarray:
        return self.native.empty(shape, numpy_dtype(dtype) if isinstance(dtype, str) else dtype)

    def _empty_like(self, x: np.ndarray) -> np.ndarray:
        return self.native.empty(x.shape, x.dtype)

    def memory(self) -> dict[str, int]:
        return self.native.memory()

    def reset_peak(self) -> None:
        self.native.reset_peak()

    def info(self) -> dict[str, object]:
        """Instruction set and threads in use, and whether dot products fuse multiplication and addition."""
        isa = self.native.isa()
        return {"isa": isa, "threads": self.native.num_threads(), "fma": isa != "portable"}

    def set_num_threads(self, count: int) -> None:
        self.native.set_num_threads(count)

    def multiply_adds(self, steps: int) -> int:
        """Multiply and add float32 registers on all threads, and return how many FLOPs that was."""
        return self.native.multiply_adds(steps)
