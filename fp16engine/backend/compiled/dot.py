"""Dot products: matrix products and convolutions."""

from __future__ import annotations

from ..base import Array, Needs, Pads, Pair, Shape
from .reduce import Reductions


class DotProducts(Reductions):
    def matmul(self, a: Array, b: Array, transpose_a: bool, transpose_b: bool, acc: str) -> Array:
        rows, columns = a.shape[-1 if transpose_a else -2], b.shape[-2 if transpose_b else -1]
        c = self.empty((*a.shape[:-2], rows, columns), a.dtype)
        self.products.matmul(a, b, None, c, transpose_a, transpose_b, *self.compute(acc, a))
        return c

    def linear_forward(self, x: Array, w: Array, b: Array | None, acc: str) -> Array:
        y = self.empty((x.shape[0], w.shape[0]), x.dtype)
        self.products.matmul(x, w, b, y, False, True, *self.compute(acc, x))
        return y

    def linear_backward(
        self, x: Array, w: Array, dy: Array, needs: Needs, acc: str
    ) -> tuple[Array | None, Array | None, Array | None]:
        dx = self.matmul(dy, w, False, False, acc) if needs[0] else None
        dw = self.matmul(dy, x, True, False, acc) if needs[1] else None
        db = self.sum(dy, (0,), acc).reshape(-1) if needs[2] else None
        return dx, dw, db

    def conv2d_forward(
        self, x: Array, w: Array, b: Array | None, stride: Pair, pads: Pads, groups: int, acc: str
    ) -> Array:
        y = self.empty(self._conv2d_shape(x, w, stride, pads), x.dtype)
        self.products.conv2d_forward(x, w, b, y, *stride, pads, groups, *self.compute(acc, x))
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
    ) -> tuple[Array | None, Array | None, Array | None]:
        dx, dw, db = self._conv2d_gradients(x, w, needs)
        how = self.compute(acc, x)
        self.products.conv2d_backward(x, w, dy, dx, dw, db, *stride, pads, groups, *how)
        return dx, dw, db

    @staticmethod
    def _conv2d_shape(x: Array, w: Array, stride: Pair, pads: Pads) -> Shape:
        """(N, OH, OW, K)"""
        height = (x.shape[1] + pads[0] + pads[1] - w.shape[1]) // stride[0] + 1
        width = (x.shape[2] + pads[2] + pads[3] - w.shape[2]) // stride[1] + 1
        return x.shape[0], height, width, w.shape[0]

    def _conv2d_gradients(
        self, x: Array, w: Array, needs: Needs
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Room for dx, dw and db, where they are wanted."""
        dx = self._empty_like(x) if needs[0] else None
        dw = self._empty_like(w) if needs[1] else None
        db = self.empty((w.shape[0],), w.dtype) if needs[2] else None
        return dx, dw, db
