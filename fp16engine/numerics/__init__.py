"""Measures of what a precision does to a network: tolerance of predictions, audit of types.

`tolerance` compares two models sample by sample (delta, Gamma and the guaranteed share of the lemma);
`audit` lists in which types every operation of a training step really ran.
"""

from .audit import Audit, audit_step
from .tolerance import Tolerance, analyse, delta, gamma_paper, gamma_sound

__all__ = ["Audit", "Tolerance", "analyse", "audit_step", "delta", "gamma_paper", "gamma_sound"]
