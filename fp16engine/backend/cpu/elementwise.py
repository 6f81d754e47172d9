"""Elementwise functions of one and two arrays, in float32 registers, rounded once."""

from __future__ import annotations

import numpy as np

from .native import empty, empty_like, native

# Which array of the forward pass the derivative is written in; the others are written in y.
_OF_INPUT = ("gelu", "log")


class Elementwise:
    def binary(self, op: str, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
        if not isinstance(b, np.ndarray):
            y = empty_like(a)
            native.binary_number(op, a, b, False, y)
        elif not isinstance(a, np.ndarray):
            y = empty_like(b)
            native.binary_number(op, b, a, True, y)
        else:
            shape = a.shape if a.shape == b.shape else np.broadcast_shapes(a.shape, b.shape)
            y = empty(shape, a.dtype)
            native.binary(op, a, b, y)
        return y

    def power(self, x: np.ndarray, exponent: float) -> np.ndarray:
        y = empty_like(x)
        native.power(x, exponent, y)
        return y

    def unary(self, op: str, x: np.ndarray) -> np.ndarray:
        y = empty_like(x)
        native.unary(op, x, y)
        return y

    def unary_backward(
        self, op: str, x: np.ndarray | None, y: np.ndarray | None, dy: np.ndarray
    ) -> np.ndarray:
        saved = dy if op == "neg" else x if op in _OF_INPUT else y
        dx = empty_like(dy)
        native.unary_backward(op, saved, dy, dx)
        return dx
