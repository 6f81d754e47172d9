"""Convolution, as matrix products over patches."""

from __future__ import annotations

import math

import numpy as np

from ...block_format import BlockFormat
from ...precision import chunk_terms
from . import winograd
from .linear import add_bias
from .quantize import operands
from .registers import accumulator, load, store
from .sums import dot, total
from .windows import Pads, Pair, patches, reached


def conv2d_forward(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    stride: Pair,
    pads: Pads,
    groups: int,
    acc: str,
    operand: BlockFormat | None = None,
    algorithm: str = "direct",
) -> np.ndarray:
    partial = accumulator(x, acc)
    if algorithm == "winograd":
        return winograd.forward(x, w, b, pads)
    if operand is not None:
        x, w = operands(operand).of_forward(x, w, groups)
    seen = patches(x, w.shape[1:3], stride, pads)
    left = _by_group(seen, groups)  # (G, pixels, kh * kw * C / G)
    right = w.reshape(groups, w.shape[0] // groups, math.prod(w.shape[1:])).swapaxes(1, 2)
    sums = _dot(left, right, acc).transpose(1, 0, 2).reshape(*seen.shape[:3], w.shape[0])
    return store(add_bias(sums, b, partial), x.dtype)


def conv2d_backward(
    x: np.ndarray,
    w: np.ndarray,
    dy: np.ndarray,
    stride: Pair,
    pads: Pads,
    groups: int,
    needs: tuple[bool, bool, bool],
    acc: str,
    operand: BlockFormat | None = None,
    algorithm: str = "direct",
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    partial = accumulator(x, acc)
    dy_for_dx, dy_for_dw, w_for_dx, x_for_dw = dy, dy, w, x
    if operand is not None:
        rounding = operands(operand)
        if needs[0]:
            dy_for_dx, w_for_dx = rounding.of_data_gradient(dy, w, groups)
        if needs[1]:
            x_for_dw, dy_for_dw = rounding.of_weight_gradient(x, dy)
    dx = dw = None
    if needs[0] and algorithm == "winograd":
        dx = winograd.data_gradient(x.shape, w, dy, pads)
    elif needs[0]:
        dx = _data_gradient(x.shape, w_for_dx, dy_for_dx, stride, pads, groups, acc)
    if needs[1] and algorithm == "winograd":
        dw = winograd.weight_gradient(x, dy, pads)
    elif needs[1]:
        dw = _weight_gradient(x_for_dw, w.shape, dy_for_dw, stride, pads, groups, acc)
    db = store(total(load(dy), (0, 1, 2), partial), w.dtype) if needs[2] else None
    return dx, dw, db


def _data_gradient(
    shape: tuple[int, ...],
    w: np.ndarray,
    dy: np.ndarray,
    stride: Pair,
    pads: Pads,
    groups: int,
    acc: str,
) -> np.ndarray:
    n, height, width, channels = shape
    k, kernel_height, kernel_width, _ = w.shape
    seen = np.zeros((n, height, width, kernel_height, kernel_width, k), dy.dtype)
    for kh in range(kernel_height):
        rows, ys = reached(height, dy.shape[1], kh, stride[0], pads[0])
        for kw in range(kernel_width):
            columns, xs = reached(width, dy.shape[2], kw, stride[1], pads[2])
            seen[:, ys, xs, kh, kw] = dy[:, rows, columns]
    left = _by_group(seen, groups)  # (G, pixels, kh * kw * K / G)
    grouped = w.reshape(groups, k // groups, kernel_height, kernel_width, channels // groups)
    right = grouped.transpose(0, 2, 3, 1, 4).reshape(groups, left.shape[2], channels // groups)
    return store(_dot(left, right, acc).transpose(1, 0, 2).reshape(shape), dy.dtype)


def _weight_gradient(
    x: np.ndarray,
    shape: tuple[int, ...],
    dy: np.ndarray,
    stride: Pair,
    pads: Pads,
    groups: int,
    acc: str,
) -> np.ndarray:
    k = shape[0]
    left = dy.reshape(math.prod(dy.shape[:3]), groups, k // groups).transpose(1, 2, 0)  # (G, K / G, pixels)
    right = _by_group(patches(x, shape[1:3], stride, pads), groups)
    return store(_dot(left, right, acc).reshape(shape), x.dtype)


def _dot(left: np.ndarray, right: np.ndarray, acc: str) -> np.ndarray:
    return dot(left, right, accumulator(left, acc), chunk_terms(acc))


def _by_group(seen: np.ndarray, groups: int) -> np.ndarray:
    """Return (G, N * OH * OW, kh * kw * C / G) of seen (N, OH, OW, kh, kw, C)."""
    n, height, width, kh, kw, channels = seen.shape
    pixels, share = n * height * width, channels // groups
    grouped = seen.reshape(pixels, kh, kw, groups, share)
    return grouped.transpose(3, 0, 1, 2, 4).reshape(groups, pixels, kh * kw * share)
