"""BLEU as others compute it: by sacrebleu (extra `text`), with the signature that names its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bleu:
    """A corpus score of 0 to 100 (Papineni et al., 2002) and sacrebleu's signature (Post, 1804.08771)."""

    score: float
    signature: str


def bleu(translations: Sequence[str], references: Sequence[str]) -> Bleu:
    """Return the BLEU of plain text, cased, tokenised by sacrebleu's default.

    Raises:
        ImportError: the extra `text` is not installed.
        ValueError: the numbers differ, or there are none.

    >>> bleu(["the cat sat on the mat"], ["the cat sat on the mat"]).score
    100.0
    """
    if len(translations) != len(references) or not references:
        raise ValueError(
            f"translations must be {len(references)}, one for each reference and at least one, "
            f"got {len(translations)}"
        )
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise ImportError(
            f"bleu needs the package sacrebleu ({error}); pip install 'fp16engine[text]'"
        ) from None
    metric = BLEU()
    score = float(metric.corpus_score(list(translations), [list(references)]).score)
    return Bleu(round(score, 10), str(metric.get_signature()))
