"""Optimizers: multi-tensor, in place, FP32 registers, one rounding per stored value."""

from ..backend.base import COUNTS, StepScalars
from .adam import Adam, AdamW
from .clip import clip_global_norm
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = ["COUNTS", "SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "StepScalars", "clip_global_norm"]
