"""Which pixels a sliding window covers, shared by convolution and pooling."""

from __future__ import annotations

import numpy as np

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


def output_size(height: int, width: int, size: Pair, stride: Pair, pads: Pads) -> Pair:
    """Return (OH, OW) for an image of height x width."""
    top, bottom, left, right = pads
    rows = (height + top + bottom - size[0]) // stride[0] + 1
    return rows, (width + left + right - size[1]) // stride[1] + 1


def patches(x: np.ndarray, size: tuple[int, ...], stride: Pair, pads: Pads) -> np.ndarray:
    """Return (N, OH, OW, kh, kw, C) of x (N, H, W, C): what each window sees, zeros outside the image."""
    top, bottom, left, right = pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(padded, size, (1, 2))  # (N, h, w, C, kh, kw)
    return view[:, :: stride[0], :: stride[1]].transpose(0, 1, 2, 4, 5, 3)


def reached(image: int, windows: int, offset: int, stride: int, pad: int) -> tuple[slice, slice]:
    """Return (windows, pixels) along one axis: those whose tap `offset` is inside the image, and where."""
    first = max(0, -(-(pad - offset) // stride))
    last = min(windows, (image - 1 + pad - offset) // stride + 1)
    start = first * stride + offset - pad
    return slice(first, max(first, last)), slice(start, max(start, last * stride + offset - pad), stride)
