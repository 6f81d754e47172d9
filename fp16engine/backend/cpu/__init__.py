"""The CPU backend: compiled loops and oneDNN convolutions over NumPy arrays held in a caching pool.

Tensors are kept in the storage dtype; arithmetic is in float32 registers or, tile by tile, in cache-sized
float32 scratch, and is rounded once when it is stored. ``acc="float16"`` selects the kernels whose
accumulators are binary16 too.
"""

from __future__ import annotations

from .dot import DotProducts
from .elementwise import Elementwise
from .norm import Norms
from .optim import OptimizerSteps
from .pool import Pooling
from .reduce import Reductions
from .softmax import Softmaxes
from .sparse import Sparse
from .storage import Storage


class CpuBackend(
    Storage, Elementwise, Reductions, DotProducts, Norms, Softmaxes, Pooling, Sparse, OptimizerSteps
):
    """Every operation of :class:`fp16engine.backend.base.Backend` on the processor."""

    name = "cpu"


def load() -> CpuBackend:
    return CpuBackend()
