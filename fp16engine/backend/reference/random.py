"""Philox4x32-10 (Salmon et al., SC'11)."""

from __future__ import annotations

import numpy as np

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = 0xFFFFFFFF


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Return the 4 random words, uint32 (..., 4), for counter words (..., 4) and the two key words."""
    c = [counter[..., i].astype(np.uint64) for i in range(4)]
    k = list(key)
    for _ in range(_ROUNDS):
        first, second = c[0] * np.uint64(_MULTIPLIERS[0]), c[2] * np.uint64(_MULTIPLIERS[1])
        low, high = np.uint64(_LOW), np.uint64(32)
        c = [
            (second >> high) ^ c[1] ^ np.uint64(k[0]),
            second & low,
            (first >> high) ^ c[3] ^ np.uint64(k[1]),
            first & low,
        ]
        k = [(word + weyl) & _LOW for word, weyl in zip(k, _WEYL, strict=True)]
    return np.stack(c, -1).astype(np.uint32)


def words(count: int, seed: int, offset: int) -> np.ndarray:
    """Return uint32 (count,): word i % 4 of counter offset + i // 4, the key being `seed`."""
    blocks = np.uint64(offset) + np.arange(-(-count // 4), dtype=np.uint64)
    zero = np.zeros_like(blocks)
    counter = np.stack([blocks & np.uint64(_LOW), blocks >> np.uint64(32), zero, zero], -1)
    return philox(counter, (seed & _LOW, (seed >> 32) & _LOW)).reshape(-1)[:count]
