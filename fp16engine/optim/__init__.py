"""Optimizers: multi-tensor, in place, FP32 registers, one rounding per stored value."""

from collections.abc import Callable

from ..backend.base import COUNTS, StepScalars
from .adam import Adam, AdamW
from .clip import clip_global_norm
from .muon import Muon
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

BY_NAME: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "muon": Muon,
}

__all__ = [
    "BY_NAME",
    "COUNTS",
    "SGD",
    "Adam",
    "AdamW",
    "Muon",
    "Optimizer",
    "RMSprop",
    "StepScalars",
    "clip_global_norm",
]
