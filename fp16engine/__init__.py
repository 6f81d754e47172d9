"""fp16engine: train neural networks entirely in binary16, and measure what that costs.

`import fp16engine` loads NumPy and nothing else of weight; compiled backends, data sets, models and the
trainer load when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from . import _early_stop  # noqa: F401  it takes Ctrl-C while the rest is imported

# isort: split
from . import autograd, functional, nn, optim, random
from ._version import __version__
from .autograd import no_grad
from .backend import devices
from .block_format import BlockFormat
from .errors import BackendUnavailable, CheckpointError, DataError, NonFiniteError, UnsupportedPrecision
from .loss_scale import LossScale
from .precision import Precision
from .random import manual_seed
from .tensor import Tensor, tensor

_MODULES = (
    "cli",
    "data",
    "distributed",
    "experiments",
    "interop",
    "models",
    "numerics",
    "prediction",
    "train",
    "translation",
)
_FROM = {"Checkpoint": "train", "Trainer": "train", "Predictor": "prediction", "load": "prediction"}

__all__ = [
    "BackendUnavailable",
    "BlockFormat",
    "Checkpoint",
    "CheckpointError",
    "DataError",
    "LossScale",
    "NonFiniteError",
    "Precision",
    "Predictor",
    "Tensor",
    "Trainer",
    "UnsupportedPrecision",
    "__version__",
    "autograd",
    "data",
    "devices",
    "distributed",
    "experiments",
    "functional",
    "interop",
    "load",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "numerics",
    "optim",
    "prediction",
    "random",
    "tensor",
    "train",
    "translation",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _FROM:
        return getattr(importlib.import_module(f"{__name__}.{_FROM[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
