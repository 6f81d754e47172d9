"""What can go wrong, by name; wrong arguments raise plain `ValueError` and `TypeError`."""

from __future__ import annotations

from typing import Any


class BackendUnavailable(RuntimeError):
    """A device, driver or compiled module is missing; the message says which and how to get it."""


class UnsupportedPrecision(ValueError):
    """A backend cannot honour a precision policy; it never falls back to another one."""


class NonFiniteError(RuntimeError):
    """Training steps had an infinite or undefined loss or gradient: too many in a row, or one too many.

    `explanation`: what the replay of the step found (`numerics.explain`), as JSON values; None without one.
    """

    explanation: dict[str, Any] | None = None


class PrecisionViolation(RuntimeError):
    """A strict run held an array, or added up in a type, that its precision policy forbids."""


class CaptureError(RuntimeError):
    """A training step cannot be recorded for replay; the trainer takes it operation by operation then."""


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or belongs to another model or precision."""


class DataError(ValueError):
    """A data set cannot be read; the message names the file and what is wrong with it."""


class PeerLost(RuntimeError):
    """A rank of a distributed run has ended or does not answer; the message names it."""
