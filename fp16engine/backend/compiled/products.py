"""Dot products of a library, but those with binary16 accumulators by the GPU's own kernels."""

from __future__ import annotations

from typing import Any

from ..base import Array, Pads


class StrictProducts:
    """Stands in for the module `library` where `kernels`, a module of the GPU's, has its binary16 sums.

    `how` is what else the library is told (`Device.compute`).
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
        half: bool,
        *how: bool,
    ) -> None:
        if half:
            self._kernels.strict_matmul(a, b, bias, c, transpose_a, transpose_b, 1.0)
        else:
            self._library.matmul(a, b, bias, c, transpose_a, transpose_b, half, *how)

    def scaled_product(self, a: Array, b: Array, c: Array, scale: float, half: bool, *how: bool) -> None:
        if half:
            self._kernels.strict_matmul(a, b, None, c, False, False, scale)
        else:
            self._library.scaled_product(a, b, c, scale, half, *how)

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
        half: bool,
        *how: bool,
    ) -> None:
        if half:
            self._kernels.strict_conv2d_forward(x, w, b, y, sh, sw, pads, groups)
        else:
            self._library.conv2d_forward(x, w, b, y, sh, sw, pads, groups, half, *how)

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
        half: bool,
        *how: bool,
    ) -> None:
        if half:
            self._kernels.strict_conv2d_backward(x, w, dy, dx, dw, db, sh, sw, pads, groups)
        else:
            self._library.conv2d_backward(x, w, dy, dx, dw, db, sh, sw, pads, groups, half, *how)
