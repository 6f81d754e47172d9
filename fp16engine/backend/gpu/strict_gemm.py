"""Dot products of a library; binary16 sums by the GPU's own kernels, unless the library's are proven."""

from __future__ import annotations

from typing import Any

from ..base import Array, Pads


class StrictGemm:
    """Replaces the module `library` where `kernels`, a module of the GPU's, has the sums.

    `accumulator` is 0 for float32 sums, always the library's, 1 for binary16 ones, the library's only where
    `library_halves`, n > 1 for chunks of n, never the library's; `how` is what else the library is told
    (`Device.compute`).
    """

    def __init__(self, kernels: Any, library: Any, library_halves: bool = False) -> None:
        self._kernels, self._library = kernels, library
        self._most = 1 if library_halves else 0  # of the accumulators, the last that is the library's

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def matmul(
        self,
        a: Array,
        b: Array,
        bias: Array | None,
        c: Array,
        transpose_a: bool,
        transpose_b: bool,
        accumulator: int,
        *how: bool,
    ) -> None:
        if accumulator > self._most:
            self._kernels.strict_matmul(a, b, bias, c, transpose_a, transpose_b, 1.0, accumulator)
        else:
            self._library.matmul(a, b, bias, c, transpose_a, transpose_b, accumulator == 1, *how)

    def linear_weight_gradient(
        self, x: Array, dy: Array, dw: Array, db: Array | None, accumulator: int, *how: bool
    ) -> None:
        if accumulator > self._most:
            self._kernels.strict_matmul(dy, x, None, dw, True, False, 1.0, accumulator)
            if db is not None:  # its terms are no products: with chunks it is a float32 sum
                self._kernels.reduce("sum", dy, db, 1, *dy.shape, accumulator == 1)
        else:
            self._library.linear_weight_gradient(x, dy, dw, db, accumulator == 1, *how)

    def scaled_product(
        self, a: Array, b: Array, c: Array, scale: float, accumulator: int, *how: bool
    ) -> None:
        if accumulator > self._most:
            self._kernels.strict_matmul(a, b, None, c, False, False, scale, accumulator)
        else:
            self._library.scaled_product(a, b, c, scale, accumulator == 1, *how)

    def conv2d_forward(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        y: Array,
        sh: int,
        sw: int,
        pads: Pads,
        groups: int,
        accumulator: int,
        *how: bool,
    ) -> None:
        if accumulator > self._most:
            self._kernels.strict_conv2d_forward(x, w, b, y, sh, sw, pads, groups, accumulator)
        else:
            self._library.conv2d_forward(x, w, b, y, sh, sw, pads, groups, accumulator == 1, *how)

    def conv2d_backward(
        self,
        x: Array,
        w: Array,
        dy: Array,
        dx: Array | None,
        dw: Array | None,
        db: Array | None,
        sh: int,
        sw: int,
        pads: Pads,
        groups: int,
        accumulator: int,
        *how: bool,
    ) -> None:
        if accumulator > self._most:
            self._kernels.strict_conv2d_backward(x, w, dy, dx, dw, db, sh, sw, pads, groups, accumulator)
        else:
            half = accumulator == 1
            self._library.conv2d_backward(x, w, dy, dx, dw, db, sh, sw, pads, groups, half, *how)
