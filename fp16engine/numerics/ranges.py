"""Where values lie on binary16's number line: the counts of `Backend.range_statistics`, and their words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST = -24, 15  # exponents of the smallest and of the largest binary16 numbers
_FIRST, _OVER = 6, 46


def percent(share: float) -> str:
    """0.934 -> "93 %"; a share that rounds to 0 or 100 says so only where it is that.

    >>> percent(0.934), percent(0.0004), percent(0.9996)
    ('93 %', '<1 %', '>99 %')
    """
    rounded = round(100 * share)
    if rounded == 0 and share > 0:
        return "<1 %"
    if rounded == 100 and share < 1:
        return ">99 %"
    return f"{rounded} %"


@dataclass(frozen=True)
class Ranges:
    """Where the values of one array, or of several together, lie on binary16's number line.

    Args:
        counts: 47 numbers, a row of `Backend.range_statistics`.

    With h the value x in binary16, `zeros` counts x = 0; `subnormal` 0 < |h| < 2^-14; `near_max` |h| within a
    factor of two of 65504; `inf` and `nan` are of x; `under` x not 0 but h = 0; `over` x finite but h
    infinite; and `exponents[i]` values with 2^(i - 24) <= |h| < 2^(i - 23), i = 0 ... 39. For float16 arrays,
    `under` and `over` are 0.

    >>> ranges = of(np.array([0.0, 1.0, 1.5, 1e-9], np.float32), "reference")
    >>> ranges.zeros, ranges.under, ranges.exponent_range
    (1, 1, (0, 0))
    """

    counts: tuple[int, ...]

    @classmethod
    def of_counts(cls, row: Iterable[Any]) -> Ranges:
        """Return the ranges of a row of `Backend.range_statistics`, or of the sum of several.

        Args:
            row: 47 integers.

        Raises:
            ValueError: an entry is no number.
            TypeError: an entry is no number.

        >>> Ranges.of_counts([3] + [0] * 46).zeros
        3
        """
        return cls(tuple(int(n) for n in row))

    def __add__(self, other: Ranges) -> Ranges:
        return Ranges(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    @property
    def zeros(self) -> int:
        return self.counts[0]

    @property
    def subnormal(self) -> int:
        return self.counts[1]

    @property
    def near_max(self) -> int:
        return self.counts[2]

    @property
    def inf(self) -> int:
        return self.counts[3]

    @property
    def nan(self) -> int:
        return self.counts[4]

    @property
    def under(self) -> int:
        return self.counts[5]

    @property
    def over(self) -> int:
        return self.counts[_OVER]

    @property
    def exponents(self) -> tuple[int, ...]:
        return self.counts[_FIRST:_OVER]

    @property
    def values(self) -> int:
        """How many values were counted."""
        return self.zeros + self.inf + self.nan + sum(self.counts[5:])

    @property
    def finite(self) -> bool:
        """Whether there was no infinity and no NaN."""
        return self.inf == self.nan == 0

    @property
    def exponent_range(self) -> tuple[int, int] | None:
        """Smallest and largest exponent that occurs; None where every value is 0, beyond binary16 or NaN."""
        met = [e for e, n in enumerate(self.exponents, LOWEST) if n]
        return (met[0], met[-1]) if met else None

    def share(self, count: int) -> float:
        """Return a count as a share of all values, 0 where there is none.

        Args:
            count: one of the counts, >= 0.

        >>> ranges = of(np.array([0.0, 1.0], np.float32), "reference")
        >>> ranges.share(ranges.zeros)
        0.5
        """
        return count / self.values if self.values else 0.0

    def in_words(self) -> str:
        """Return one line: the span of magnitudes, then whatever is remarkable.

        >>> of(np.array([0.0, 3.0, np.inf], np.float16), "reference").in_words()
        '2^1 to 2^2, 33 % zero, 1 infinite'
        """
        span = self.exponent_range
        parts = [f"2^{span[0]} to 2^{span[1] + 1}" if span else "no finite number but 0"]
        for name, count in (
            ("zero", self.zeros),
            ("subnormal", self.subnormal),
            ("near 65504", self.near_max),
        ):
            if count:
                parts.append(f"{percent(self.share(count))} {name}")
        for name, count in (("below 2^-25", self.under), ("beyond 65504", self.over)):
            if count:
                parts.append(f"{count:,} {name}")
        for name, count in (("infinite", self.inf), ("NaN", self.nan)):
            if count:
                parts.append(f"{count:,} {name}")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return counts as JSON values; `exponents` from `first` on, without the empty ends.

        >>> of(np.array([0.0, 1.0], np.float32), "reference").to_dict()["exponents"]
        [1]
        """
        span = self.exponent_range
        first, last = span or (0, -1)
        return {
            "values": self.values,
            "zeros": self.zeros,
            "subnormal": self.subnormal,
            "near_max": self.near_max,
            "inf": self.inf,
            "nan": self.nan,
            "under": self.under,
            "over": self.over,
            "first": first,
            "exponents": list(self.exponents[first - LOWEST : last - LOWEST + 1]) if span else [],
        }


EMPTY = Ranges((0,) * (_OVER + 1))


def of(x: Any, device: str = "cpu") -> Ranges:
    """Return the ranges of one array.

    Args:
        x: NumPy's, or an array of the device's backend; any shape, float16, bfloat16 or float32.
        device: "cpu", "cuda", "cuda:1" or "reference".

    Raises:
        BackendUnavailable: the device is not there.

    >>> of(np.array([1e-9], np.float32), "reference").under
    1
    """
    from .. import backend as backends

    backend = backends.get(device)
    array = backend.from_numpy(x) if isinstance(x, np.ndarray) else x
    counts: NDArray[np.int64] = backend.to_numpy(backend.range_statistics([array]))
    return Ranges.of_counts(counts[0])
