"""Elementwise functions of one and two arrays, in float32 registers, rounded once."""

from __future__ import annotations

import numpy as np

from ..base import Array
from .shape import Storage

# Which array of the forward pass the derivative is written in; the others are written in y.
_OF_INPUT = ("gelu", "log")


class Elementwise(Storage):
    def binary(self, op: str, a: Array | float, b: Array | float) -> Array:
        array = self.xp.ndarray
        if not isinstance(b, array):
            y = self._empty_like(a)
            self.native.binary_number(op, a, b, False, y)
        elif not isinstance(a, array):
            y = self._empty_like(b)
            self.native.binary_number(op, b, a, True, y)
        else:
            shape = a.shape if a.shape == b.shape else np.broadcast_shapes(a.shape, b.shape)
            y = self.empty(shape, a.dtype)
            self.native.binary(op, a, b, y)
        return y

    def power(self, x: Array, exponent: float) -> Array:
        y = self._empty_like(x)
        self.native.power(x, exponent, y)
        return y

    def unary(self, op: str, x: Array) -> Array:
        y = self._empty_like(x)
        self.native.unary(op, x, y)
        return y

    def unary_backward(self, op: str, x: Array | None, y: Array | None, dy: Array) -> Array:
        saved = dy if op == "neg" else x if op in _OF_INPUT else y
        dx = self._empty_like(dy)
        self.native.unary_backward(op, saved, dy, dx)
        return dx

    def relu_add_backward(self, y: Array, dy: Array, pending_grad: Array) -> Array:
        return self.binary("add", self.unary_backward("relu", None, y, dy), pending_grad)
