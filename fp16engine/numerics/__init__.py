"""Measures of what a precision does to a network, and what shows where it is about to fail.

`monitor` looks at the ranges and lost updates of every layer, `explain` replays a step that was not finite,
`strict` and `audit` say in which types every operation of a training step really ran, `tolerance` compares
two models sample by sample (delta, Gamma and the guaranteed share of the lemma), `lockstep` layer by layer,
`preflight` looks before a run. docs/numerics.md explains the figures.
"""

from .audit import Audit, audit_step
from .explain import Explanation
from .lockstep import LockStep
from .monitor import Monitor, Sample
from .ranges import Ranges
from .tolerance import Tolerance, analyse, delta, gamma_paper, gamma_sound

__all__ = [
    "Audit",
    "Explanation",
    "LockStep",
    "Monitor",
    "Ranges",
    "Sample",
    "Tolerance",
    "analyse",
    "audit_step",
    "delta",
    "gamma_paper",
    "gamma_sound",
]
