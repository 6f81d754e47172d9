"""Training: `Trainer`, its history, checkpoints, metrics and progress."""

from ..reporting.files import SaveError
from ..reporting.history import EpochRecord, History
from ..reporting.interrupt import Interrupted
from .checkpoint import Checkpoint
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
