"""Dot products: matrix products by our tiles, convolutions by oneDNN or as implicit products."""

from __future__ import annotations

import numpy as np

from .native import empty, empty_like, half_accumulator, native


class DotProducts:
    def matmul(
        self, a: np.ndarray, b: np.ndarray, transpose_a: bool, transpose_b: bool, acc: str
    ) -> np.ndarray:
        rows, columns = a.shape[-1 if transpose_a else -2], b.shape[-2 if transpose_b else -1]
        c = empty((*a.shape[:-2], rows, columns), a.dtype)
        native.matmul(a, b, None, c, transpose_a, transpose_b, half_accumulator(acc, a))
        return c

    def linear_forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, acc: str) -> np.ndarray:
        y = empty((x.shape[0], w.shape[0]), x.dtype)
        native.matmul(x, w, b, y, False, True, half_accumulator(acc, x))
        return y

    def linear_backward(
        self, x: np.ndarray, w: np.ndarray, dy: np.ndarray, needs: tuple[bool, bool, bool], acc: str
    ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        dx = self.matmul(dy, w, False, False, acc) if needs[0] else None
        dw = self.matmul(dy, x, True, False, acc) if needs[1] else None
        db = self.sum(dy, (0,), acc).reshape(-1) if needs[2] else None  # type: ignore[attr-defined]
        return dx, dw, db

    def conv2d_forward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        stride: tuple[int, int],
        pads: tuple[int, int, int, int],
        groups: int,
        acc: str,
    ) -> np.ndarray:
        height = (x.shape[1] + pads[0] + pads[1] - w.shape[1]) // stride[0] + 1
        width = (x.shape[2] + pads[2] + pads[3] - w.shape[2]) // stride[1] + 1
        y = empty((x.shape[0], height, width, w.shape[0]), x.dtype)
        native.conv2d_forward(x, w, b, y, *stride, pads, groups, half_accumulator(acc, x))
        return y

    def conv2d_backward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        dy: np.ndarray,
        stride: tuple[int, int],
        pads: tuple[int, int, int, int],
        groups: int,
        needs: tuple[bool, bool, bool],
        acc: str,
    ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        dx = empty_like(x) if needs[0] else None
        dw = empty_like(w) if needs[1] else None
        db = empty((w.shape[0],), w.dtype) if needs[2] else None
        native.conv2d_backward(x, w, dy, dx, dw, db, *stride, pads, groups, half_accumulator(acc, x))
        return dx, dw, db
