"""Training: `Trainer`, its history, checkpoints, metrics and progress."""

from ..reporting.files import SaveError
from ..reporting.history import EpochRecord, History
from ..reporting.interrupt import Interrupted
from .checkpoint import Checkpoint
from .config import TrainConfig
from .counters import StepResult
from .refinements import Refinements
from .scaler import LossScaler
from .state import TrainState
from .trainer import Trainer

__all__ = [
    "Checkpoint",
    "EpochRecord",
    "History",
    "Interrupted",
    "LossScaler",
    "Refinements",
    "SaveError",
    "StepResult",
    "TrainConfig",
    "TrainState",
    "Trainer",
]
