"""Every operation as calls of compiled functions, on the arrays of any device.

The modules fp16engine._cpu, _cuda and _simt offer the same functions (csrc/bindings/bind_ops.h). What differs
from device to device is named in :class:`~fp16engine.backend.compiled.device.Device`.
"""

from __future__ import annotations

from .attention import Attention
from .augment import Augmentations
from .conv import Convolutions
from .dropout import Dropout
from .embedding import Embeddings
from .norm import Norms
from .optim import OptimizerSteps
from .pool import Pooling
from .ranges import Ranges
from .softmax import Softmaxes


class CompiledBackend(
    Norms,
    Softmaxes,
    Pooling,
    Convolutions,
    Attention,
    Embeddings,
    Dropout,
    Augmentations,
    OptimizerSteps,
    Ranges,
):
    """Every operation of :class:`fp16engine.backend.base.Backend` except array storage and its accounts."""
