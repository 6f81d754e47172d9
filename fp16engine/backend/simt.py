"""The GPU's kernels on a simulator, for tests: slow, and an error where a GPU would go wrong quietly.

Matrix products and convolutions other than depthwise ones are libraries' on the GPU and the CPU backend's
here, except those with binary16 accumulators.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..errors import BackendUnavailable
from .base import Shape
from .compiled import CompiledBackend
from .compiled.device import DTYPES
from .compiled.gpu import GpuOperations
from .compiled.host import HostArrays
from .compiled.products import StrictProducts
from .counter import CountedArrays


def load() -> SimtBackend:
    """Return a simulated GPU."""
    try:
        from .. import _cpu, _simt
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

    def __init__(self, native: ModuleType, products: ModuleType) -> None:
        super().__init__()
        self.native, self.products = native, StrictProducts(native, products)
        # Elements by which arrays start off the alignment their allocation has.
        self.offset = 0

    def empty(self, shape: Shape, dtype: str | np.dtype) -> np.ndarray:
        dtype = DTYPES[dtype] if isinstance(dtype, str) else dtype
        count = int(np.prod(shape, dtype=np.int64))
        memory = np.full((self.offset + count) * dtype.itemsize, 0xFF, np.uint8)
        self._count_array(memory)
        return memory.view(dtype)[self.offset :].reshape(shape)

    def set_schedule(self, schedule: int) -> None:
        """Choose the order in which a block's threads run: 0 fair, 1 and 2 greedy, from 3 on shuffled."""
        self.native.set_schedule(schedule)

    def set_num_threads(self, count: int) -> None:
        self.native.set_num_threads(count)
        self.products.set_num_threads(count)
