"""Training: `Trainer`, its history, checkpoints, metrics and progress."""

from .checkpoint import Checkpoint
from .files import SaveError
from .history import EpochRecord, History
from .interrupt import Interrupted
from .scaler import LossScaler
from .trainer import StepResult, Trainer

__all__ = [
    "Checkpoint",
    "EpochRecord",
    "History",
    "Interrupted",
    "LossScaler",
    "SaveError",
    "StepResult",
    "Trainer",
]
