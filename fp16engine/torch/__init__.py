"""FP16 training for PyTorch's own modules and tensors; needs PyTorch, which nothing else of the package does.

Optimizers whose state survives float16, a gradient scaler and a clip for float16 gradients; instruments
(`watch`, `explain`, `audit`); and PyTorch's networks and weights as ours. docs/pytorch.md shows each at work.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "fp16engine.torch needs PyTorch, which is not installed: pip install 'fp16engine[torch]'",
        name="torch",
    ) from error

from .audit import Audit, OperatorRow, audit
from .compiled import RemovedCast
from .convert import from_torch
from .explain import explain
from .gradients import clip_grad_norm_
from .monitor import Monitor, watch
from .muon import Muon
from .optimizers import SGD, Adam, AdamW, RMSprop
from .scaler import GradScaler, Skip
from .weights import load_state, to_state

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Audit",
    "GradScaler",
    "Monitor",
    "Muon",
    "OperatorRow",
    "RMSprop",
    "RemovedCast",
    "Skip",
    "audit",
    "clip_grad_norm_",
    "explain",
    "from_torch",
    "load_state",
    "to_state",
    "watch",
]
