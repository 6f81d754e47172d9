"""Binary and unary functions and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .registers import load, store

_BINARY: dict[str, np.ufunc] = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
_erfc = np.frompyfunc(math.erfc, 1, 1)


def binary(op: str, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    dtype = np.result_type(*(x for x in (a, b) if isinstance(x, np.ndarray)))
    register = np.promote_types(dtype, np.float32)
    return store(_BINARY[op](np.asarray(a, register), np.asarray(b, register)), dtype)


def power(x: np.ndarray, exponent: float) -> np.ndarray:
    r = load(x)
    return store(np.power(r, r.dtype.type(exponent)), x.dtype)


def unary(op: str, x: np.ndarray) -> np.ndarray:
    return store(_UNARY[op](load(x)), x.dtype)


def unary_backward(op: str, x: np.ndarray | None, y: np.ndarray | None, dy: np.ndarray) -> np.ndarray:
    reads = x if op in ("gelu", "log") else y
    saved = load(dy if reads is None else reads)
    return store(_GRADIENT[op](saved, load(dy)), dy.dtype)


def relu_add_backward(y: np.ndarray, dy: np.ndarray, pending_grad: np.ndarray) -> np.ndarray:
    return binary("add", unary_backward("relu", None, y, dy), pending_grad)


def _relu(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0, x.dtype.type(0), x)


def _relu6(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 6, x.dtype.type(6), _relu(x))


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    # NumPy has no erfc; math.erfc works in double, which costs time but no accuracy.
    values: np.ndarray = 0.5 * np.asarray(_erfc(x.astype(np.float64) / -math.sqrt(2.0)), np.float64)
    return values


def _gelu(x: np.ndarray) -> np.ndarray:
    tail = np.isneginf(x)  # -inf * Phi(-inf) is NaN, the limit is -0
    return np.asarray(np.where(tail, -0.0, x * _normal_cdf(x)), x.dtype)


def _gelu_gradient(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    density = np.exp(-0.5 * x.astype(np.float64) ** 2) / math.sqrt(2.0 * math.pi)
    slope = _normal_cdf(x) + np.where(np.isinf(x), 0.0, x * density)
    return dy * np.asarray(slope, x.dtype)


def _zero_unless(keep: np.ndarray, dy: np.ndarray) -> np.ndarray:
    return np.where(keep, dy, dy.dtype.type(0))


_UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": _relu,
    "relu6": _relu6,
    "gelu": _gelu,
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "neg": np.negative,
}

_GRADIENT: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "relu": lambda y, dy: _zero_unless(y > 0, dy),
    "relu6": lambda y, dy: _zero_unless((y > 0) & (y < 6), dy),
    "gelu": _gelu_gradient,
    "tanh": lambda y, dy: dy * (1 - y * y),
    "exp": lambda y, dy: dy * y,
    "log": lambda x, dy: dy / x,
    "sqrt": lambda y, dy: (dy * 0.5) / y,
    "neg": lambda _, dy: -dy,
}
