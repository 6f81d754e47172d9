"""Convolutions."""

from __future__ import annotations

from ...block_format import BlockFormat
from ..base import Array, Needs, Pads, Pair, Shape
from .quantize import Quantizer


class Convolutions(Quantizer):
    def conv2d_forward(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        stride: Pair,
        pads: Pads,
        groups: int,
        acc: str,
        operand: BlockFormat | None = None,
        algorithm: str = "direct",
    ) -> Array:
        if operand is not None:
            x, w = self._operands(operand).of_forward(x, w, groups)
        y = self.empty(self._conv2d_shape(x, w, stride, pads), x.dtype)
        self._convolve(x, w, b, y, stride, pads, groups, acc, algorithm)
        return y

    def conv2d_backward(
        self,
        x: Array,
        w: Array,
        dy: Array,
        stride: Pair,
        pads: Pads,
        groups: int,
        needs: Needs,
        acc: str,
        operand: BlockFormat | None = None,
        algorithm: str = "direct",
    ) -> tuple[Array | None, Array | None, Array | None]:
        dx, dw, db = self._conv2d_gradients(x, w, needs)
        settings = stride, pads, groups, acc, algorithm
        if operand is None:
            self._convolve_back(x, w, dy, dx, dw, db, *settings)
            return dx, dw, db
        # The two products round the gradient along different axes; its sum, the bias', is no product.
        operands = self._operands(operand)
        if needs[0]:
            dy_rows, w_rows = operands.of_data_gradient(dy, w, groups)
            self._convolve_back(x, w_rows, dy_rows, dx, None, None, *settings)
        if needs[1]:
            x_pixels, dy_pixels = operands.of_weight_gradient(x, dy)
            self._convolve_back(x_pixels, w, dy_pixels, None, dw, None, *settings)
        if needs[2]:
            self._convolve_back(x, w, dy, None, None, db, *settings)
        return dx, dw, db

    def _convolve(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        y: Array,
        stride: Pair,
        pads: Pads,
        groups: int,
        acc: str,
        algorithm: str,
    ) -> None:
        """Write the convolution into `y`."""
        how = self._convolution(acc, x, algorithm)
        self.gemm.conv2d_forward(x, w, b, y, *stride, pads, groups, *how)

    def _convolve_back(
        self,
        x: Array,
        w: Array,
        dy: Array,
        dx: Array | None,
        dw: Array | None,
        db: Array | None,
        stride: Pair,
        pads: Pads,
        groups: int,
        acc: str,
        algorithm: str,
    ) -> None:
        """Write those of the three gradients that there is room for."""
        how = self._convolution(acc, x, algorithm)
        self.gemm.conv2d_backward(x, w, dy, dx, dw, db, *stride, pads, groups, *how)

    def _convolution(self, acc: str, x: Array, algorithm: str) -> tuple[int, ...]:
        """How `products` are told what to compute in, and by which algorithm where there is a choice."""
        how = self.compute(acc, x)
        return (*how, algorithm == "winograd") if self.capabilities.winograd else how

    @staticmethod
    def _conv2d_shape(x: Array, w: Array, stride: Pair, pads: Pads) -> Shape:
        """(N, OH, OW, K)"""
        height = (x.shape[1] + pads[0] + pads[1] - w.shape[1]) // stride[0] + 1
        width = (x.shape[2] + pads[2] + pads[3] - w.shape[2]) // stride[1] + 1
        return x.shape[0], height, width, w.shape[0]

    def _conv2d_gradients(
        self, x: Array, w: Array, needs: Needs
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Room for dx, dw and db, where they are needed."""
        dx = self._empty_like(x) if needs[0] else None
        dw = self._empty_like(w) if needs[1] else None
        db = self.empty((w.shape[0],), w.dtype) if needs[2] else None
        return dx, dw, db
