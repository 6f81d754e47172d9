"""Eight pairs that a small network learns by heart."""

from __future__ import annotations

from typing import Any

import numpy as np

import fp16engine as fe
from fp16engine.data.encoded import EncodedPairs, EncodedText
from fp16engine.models.transformer import Transformer
from fp16engine.translation import TranslationTrainer

VOCABULARY = 20


def pairs(count: int = 8, seed: int = 0) -> EncodedPairs:
    """Sources of 1 to 5 tokens; the translation is the source backwards, its first token said twice."""
    rng = np.random.default_rng(seed)
    sources = [rng.integers(3, VOCABULARY, 1 + i % 5) for i in range(count)]
    targets = [np.array([s[-1], *s[::-1], 2]) for s in sources]
    return EncodedPairs(tuple(np.array([*s, 2]) for s in sources), tuple(targets))


def text(count: int = 8) -> EncodedText:
    return EncodedText("tiny", pairs(count), pairs(3, seed=1))


def trainer(precision: str = "fp32", device: str = "cpu", dropout: float = 0.0, **options: Any) -> Any:
    with fe.random.fork(4):
        model = Transformer(VOCABULARY, 32, 2, 64, 1, dropout)
    options = {"optimizer": "adam", "lr": 3e-3, "betas": (0.9, 0.98), **options}
    return TranslationTrainer(model, precision, device=device, **options)
