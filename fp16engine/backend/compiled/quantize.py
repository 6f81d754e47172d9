"""Rounding to block floating point."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...block_format import BlockFormat
from ...errors import UnsupportedPrecision
from ..base import Array
from ..blocks import Blocks, Operands, block_shape
from .shape import Storage


class Quantizer(Storage):
    def quantize(self, x: Array, blocks: Blocks, fmt: BlockFormat) -> Array:
        if x.dtype != np.float32:
            raise UnsupportedPrecision(f"quantize: x must be float32 for a block format, got {x.dtype}")
        y = self._empty_like(x)
        outer, rows, columns = blocks.shape
        height, width = block_shape(blocks, fmt)
        if blocks.axis == 2 and not fmt.tile:
            extents = (outer * rows, columns, 1, width, 1)
        else:
            extents = (outer, rows, columns, height, width)
        self._round(x, y, *extents, fmt.mantissa, fmt.exponent_bits, fmt.stochastic, *fmt.draw)
        return y

    def _round(self, *arguments: Any) -> None:
        self.native.quantize(*arguments)

    def _operands(self, fmt: BlockFormat) -> Operands:
        return Operands(fmt, self.quantize, self.transpose)
