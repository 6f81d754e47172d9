"""What can go wrong, by name; wrong arguments raise plain `ValueError` and `TypeError`."""


class BackendUnavailable(RuntimeError):
    """A device, driver or compiled module is missing; the message says which and how to get it."""


class UnsupportedPrecision(ValueError):
    """A backend cannot honour a precision policy; it never falls back to another one."""


class NonFiniteError(RuntimeError):
    """Too many training steps in a row had an infinite or undefined loss or gradient."""


class CaptureError(RuntimeError):
    """A training step cannot be recorded for replay; the trainer takes it operation by operation then."""


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or belongs to another model or precision."""


class DataError(ValueError):
    """A data set cannot be read; the message names the file and what is wrong with it."""
