"""The counter-based generator against the vectors its authors publish, and the dropout it drives."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest

from fp16engine.backend.reference.random import philox

# Random123, kat_vectors, "philox4x32 10": counter, key, result.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), VECTORS)
def test_known_answers(counter: str, key: str, result: str) -> None:
    first, second = _words(key)
    got = philox(np.array([_words(counter)], np.uint32), (first, second))
    assert got.tolist() == [_words(result)]


def test_dropout_takes_words_in_order(backend: Any) -> None:
    """Seed 0 from counter 0: the words of the first known answer decide about the first four elements."""
    words = np.array(_words(VECTORS[0][2])) / 2.0**32
    for p in (0.3, 0.5, 0.8, float(words[1])):
        y = backend.to_numpy(backend.dropout(backend.from_numpy(np.ones(4, np.float32)), p, 0, 0))
        expected = np.where(words >= p, np.float32(1 / (1 - p)), np.float32(0))
        np.testing.assert_array_equal(y, expected)


def test_dropout_offset_counts_in_fours(backend: Any) -> None:
    x = backend.from_numpy(np.ones(40, np.float16))
    whole = backend.to_numpy(backend.dropout(x, 0.5, 99, 1000))
    tail = backend.to_numpy(backend.dropout(backend.from_numpy(np.ones(28, np.float16)), 0.5, 99, 1003))
    bounds.same_bits(np.array(whole[12:]), np.array(tail))


def test_dropout_keeps_the_share(backend: Any) -> None:
    n, p = 100_000, 0.1
    y = backend.to_numpy(backend.dropout(backend.from_numpy(np.ones(n, np.float32)), p, 5, 0))
    kept = np.count_nonzero(y)
    six_sigma = 6 * np.sqrt(n * p * (1 - p))
    assert abs(kept - n * (1 - p)) < six_sigma
