"""What the operands of a dot product are rounded to."""

from __future__ import annotations

import math
from typing import Any

from .. import random
from ..autograd import is_recording
from ..block_format import BlockFormat
from ..errors import UnsupportedPrecision


def drawn(operand: BlockFormat | None, arrays: int, *given: Any, largest: int = 0) -> BlockFormat | None:
    """Return the format for one call that rounds `arrays` arrays of at most `largest` elements, or of the
    largest of `given`.

    A stochastic format gets random words of its own, from the counter that drives dropout; where nothing is
    recorded for backward, in evaluation, it rounds to nearest.

    Raises:
        UnsupportedPrecision: an array is not float32.
    """
    if operand is None:
        return None
    for x in given:
        if str(x.dtype) != "float32":
            raise UnsupportedPrecision(
                f"precision: tensors must be float32 for dot products in {operand.name}, got {x.dtype}; "
                "cast with .astype('float32')"
            )
    if not operand.stochastic:
        return operand
    if not is_recording():
        return operand.to_nearest()
    largest = max(largest, *(math.prod(x.shape) for x in given))
    return operand.drawing(*random.dropout_counter(arrays * 4 * -(-largest // 4)))
