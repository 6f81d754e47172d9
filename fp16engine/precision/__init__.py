"""The precision policy: what each part of training is kept and computed in, decided in this package alone."""

from .choices import CHUNKS, CONVOLUTIONS, NO_BFLOAT16, NO_TF32, STATISTICS_FORMS, UPDATES, chunk_terms
from .policy import Precision, accumulator, active

__all__ = [
    "CHUNKS",
    "CONVOLUTIONS",
    "NO_BFLOAT16",
    "NO_TF32",
    "STATISTICS_FORMS",
    "UPDATES",
    "Precision",
    "accumulator",
    "active",
    "chunk_terms",
]
