"""Counts along binary16's number line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

COLUMNS = 47
_NEAR = np.finfo(np.float16).max / 2  # 32752


def range_statistics(arrays: Sequence[np.ndarray]) -> np.ndarray:
    counts = np.zeros((len(arrays), COLUMNS), np.int64)
    for row, x in zip(counts, arrays, strict=True):
        h = np.abs(x.astype(np.float16)).astype(np.float64)
        finite = np.isfinite(x)
        h_finite = h[np.isfinite(h)]
        row[0] = np.count_nonzero(x == 0)
        row[1] = np.count_nonzero((h_finite > 0) & (h_finite < np.finfo(np.float16).tiny))
        row[2] = np.count_nonzero(h_finite >= _NEAR)
        row[3] = np.count_nonzero(np.isinf(x))
        row[4] = np.count_nonzero(np.isnan(x))
        row[5] = np.count_nonzero((x != 0) & (h == 0))
        _, exponent = np.frexp(h_finite[h_finite > 0])  # h = fraction * 2^exponent, 1/2 <= fraction < 1
        row[6:46] = np.bincount(exponent - 1 + 24, minlength=40)
        row[46] = np.count_nonzero(finite & np.isinf(h))
    return counts
