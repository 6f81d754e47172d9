"""Dot products of a library, but those with binary16 accumulators by the GPU's own kernels."""

from __future__ import annotations

from typing import Any

from ..base import Array, Pads


class StrictGemm:
    """Replaces the module `library` where `kernels`, a module of the GPU's, has its binary16 sums.

    `accumulator` is 0 for the library's float32 sums, 1 for binary16 ones, n > 1 for chunks of n; `how` is
    what else it is told (`Device.compute`).
    """

    def __init__(self, kernels: Any, library: Any) -> None:
        self._kernels, self._library = kernels, library

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
        if accumulator:
            self._kernels.strict_matmul(a, b, bias, c, transpose_a, transpose_b, 1.0, accumulator)
        else:
            self._library.matmul(a, b, bias, c, transpose_a, transpose_b, False, *how)

    def linear_weight_gradient(
        self, x: Array, dy: Array, dw: Array, db: Array | None, accumulator: int, *how: bool
    ) -> None:
        if accumulator:
            self._kernels.strict_matmul(dy, x, None, dw, True, False, 1.0, accumulator)
            if db is not None:  # its terms are no products: with chunks it is a float32 sum
                self._kernels.reduce("sum", dy, db, 1, *dy.shape, accumulator == 1)
        else:
            self._library.linear_weight_gradient(x, dy, dw, db, False, *how)

    def scaled_product(
        self, a: Array, b: Array, c: Array, scale: float, accumulator: int, *how: bool
    ) -> None:
        if accumulator:
            self._kernels.strict_matmul(a, b, None, c, False, False, scale, accumulator)
        else:
            self._library.scaled_product(a, b, c, scale, False, *how)

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
        if accumulator:
            self._kernels.strict_conv2d_forward(x, w, b, y, sh, sw, pads, groups, accumulator)
        else:
            self._library.conv2d_forward(x, w, b, y, sh, sw, pads, groups, False, *how)

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
        if accumulator:
            self._kernels.strict_conv2d_backward(x, w, dy, dx, dw, db, sh, sw, pads, groups, accumulator)
        else:
            self._library.conv2d_backward(x, w, dy, dx, dw, db, sh, sw, pads, groups, False, *how)
