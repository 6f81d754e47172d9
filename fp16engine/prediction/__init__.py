"""Trained networks on new images: `load`, `Predictor`, and what they say."""

from .predictor import Evaluation, Predictions, Predictor, load

__all__ = ["Evaluation", "Predictions", "Predictor", "load"]
