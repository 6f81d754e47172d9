"""Dot products and sums in the documented order, for every accumulator.

The float32 accumulator takes the same order as the float16 one, so both differ in rounding alone; float64 is
left to NumPy. All outputs advance together: Python loops over the 32 terms of a block, never over outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

BLOCK = 32
_WORKING_SET = 1 << 18  # partial sums held at once, to stay in the cache


def dot(a: np.ndarray, b: np.ndarray, partial: np.dtype, chunk: int = 0) -> np.ndarray:
    """Return the unrounded sums of a (..., M, K) @ b (..., K, N) as register values (..., M, N).

    With `chunk` the partial sums within so many terms are binary16.
    """
    if partial == np.float64:
        return np.asarray(a @ b)
    *batch, rows, terms = a.shape
    groups, columns = math.prod(batch), b.shape[-1]
    # In binary64 the product of two halves is exact, and its sum with a half is exact wherever the result
    # comes near a tie of binary16; so rounding to binary16 afterwards is a true fused multiply-add.
    working = np.float64 if chunk or partial == np.float16 else np.float32
    # (K, G, M, 1) and (K, G, 1, N) in C order, so that a slice of terms is read in a row.
    left = np.ascontiguousarray(a.reshape(groups, rows, terms).transpose(2, 0, 1), working)[..., None]
    right = np.ascontiguousarray(b.reshape(groups, terms, columns).transpose(1, 0, 2), working)[:, :, None]
    out = np.empty((groups, rows, columns), np.float32)
    step = max(1, _WORKING_SET // max(1, -(-terms // BLOCK) * groups * columns))
    for first in range(0, rows, step):
        part = left[:, :, first : first + step]

        def term(index: slice, part: np.ndarray = part) -> np.ndarray:
            return part[index] * right[index]

        shape = (groups, part.shape[2], columns)
        out[:, first : first + step] = (
            _chunked(term, terms, shape, chunk) if chunk else _blocked(term, terms, shape, partial, working)
        )
    return out.reshape(*batch, rows, columns)


def total(terms: np.ndarray, axes: Sequence[int], partial: np.dtype, halved: bool = False) -> np.ndarray:
    """Return the unrounded sums of register values over `axes`, in their C order, without the reduced
    axes."""
    if partial == np.float64:
        return np.asarray(terms.sum(tuple(axes)))
    kept = [axis for axis in range(terms.ndim) if axis not in axes]
    shape = tuple(terms.shape[axis] for axis in kept)
    count = math.prod(terms.shape[axis] for axis in axes)
    front = terms.transpose(*axes, *kept).reshape(count, *shape)
    return _blocked(front.__getitem__, count, shape, partial, np.float32, halved)


def average(terms: np.ndarray, axes: Sequence[int], partial: np.dtype) -> np.ndarray:
    """Return the means of register values over `axes`, without the reduced axes.

    Binary16 partial sums are halved at every merge of two: the same rounding, but the sum cannot overflow
    where the mean does not.
    """
    count = math.prod(terms.shape[axis] for axis in axes)
    if partial != np.float16:
        return total(terms, axes, partial) / terms.dtype.type(count)
    return total(terms, axes, partial, halved=True) / np.float32(count)


def rounded(sums: np.ndarray, partial: np.dtype) -> np.ndarray:
    """Return `sums` rounded to the accumulator's type, in their own dtype."""
    if partial == np.float16:
        sums = sums.astype(np.float16).astype(sums.dtype)
    return sums


def _blocked(
    term: Callable[[slice], np.ndarray],
    count: int,
    shape: tuple[int, ...],
    partial: np.dtype,
    working: type,
    halved: bool = False,
) -> np.ndarray:
    """Sum `count` terms; term(index) gives a slice of them, the terms in front, each of `shape`."""
    return _combined(_block_sums(term, count, shape, partial, working, BLOCK), partial, halved)


def _chunked(
    term: Callable[[slice], np.ndarray], count: int, shape: tuple[int, ...], chunk: int
) -> np.ndarray:
    """`_blocked` with binary16 sums of `chunk` terms, added in binary32 in their order."""
    total = np.zeros(shape, np.float32)
    for block in _block_sums(term, count, shape, np.dtype(np.float16), np.float64, chunk):
        total = total + block.astype(np.float32)
    return total


def _block_sums(
    term: Callable[[slice], np.ndarray],
    count: int,
    shape: tuple[int, ...],
    partial: np.dtype,
    working: type,
    block: int,
) -> np.ndarray:
    """Sum each block of `block` terms, the last one may be shorter, one term after the other."""
    full = count // block
    sums: np.ndarray = np.zeros((-(-count // block), *shape), working)
    for j in range(block if full else 0):
        _add(sums[:full], term(slice(j, full * block, block)), partial)
    for j in range(full * block, count):
        _add(sums[full:], term(slice(j, j + 1)), partial)
    return sums


def _add(sums: np.ndarray, terms: np.ndarray, partial: np.dtype) -> None:
    """Add `terms` to `sums` in place and round."""
    np.add(sums, terms, out=sums)
    if partial == np.float16:
        sums[...] = rounded(sums, partial)


def _combined(sums: np.ndarray, partial: np.dtype, halved: bool) -> np.ndarray:
    """Combine block sums (oldest first) as the binary counter does."""
    half = sums.dtype.type(0.5 if halved else 1)  # a sum of level n is kept times half**n
    if len(sums) == 0:
        return np.zeros(sums.shape[1:], sums.dtype)
    leftovers = []  # level and newest sum of each level that found no partner, lowest level first
    level = 0
    while len(sums):
        if len(sums) % 2:
            leftovers.append((level, sums[-1]))
            sums = sums[:-1]
        sums = rounded((sums[0::2] + sums[1::2]) * half, partial)
        level += 1
    level, result = leftovers[0]
    for higher, older in leftovers[1:]:
        result = rounded(older + result * half ** (higher - level), partial)
        level = higher
    return np.asarray(result / half**level, np.float32)
