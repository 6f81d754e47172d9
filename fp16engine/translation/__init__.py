"""Translation: training on sentence pairs, greedy and beam search, BLEU."""

from .search import Hypothesis, translate
from .trainer import TranslationTrainer

__all__ = ["Hypothesis", "TranslationTrainer", "translate"]
