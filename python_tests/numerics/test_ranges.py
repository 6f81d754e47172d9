"""Ranges of arrays in words and figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from fp16engine.numerics import ranges
from fp16engine.numerics.ranges import EMPTY, Ranges, percent


def test_every_kind_of_value_is_counted_where_it_belongs(backend_name: str) -> None:
    x = np.array([0, -0.0, 1, -1.5, 2.0**-14, 2.0**-15, 40000, np.inf, -np.inf, np.nan], np.float32)
    far = np.array([1e-9, -1e-9, 70000.0, 65519.0, 65520.0], np.float32)
    both = ranges.of(np.concatenate([x, far]), backend_name)
    assert (both.zeros, both.subnormal, both.near_max, both.inf, both.nan) == (2, 1, 2, 2, 1)
    assert (both.under, both.over) == (2, 2)  # 65519 is stored as 65504, 65520 as infinity
    assert both.exponents[24] == 2 and both.exponent_range == (-15, 15)
    assert both.values == 15 and not both.finite
    half = ranges.of(x.astype(np.float16), backend_name)
    assert half == ranges.of(x, backend_name)


def test_ranges_add_up() -> None:
    one, two = (ranges.of(np.array(v, np.float16), "reference") for v in ([1.0], [0.0, 4.0]))
    both = one + two
    assert both == ranges.of(np.array([1.0, 0.0, 4.0], np.float16), "reference")
    assert EMPTY + both == both
    assert EMPTY.exponent_range is None and EMPTY.share(0) == 0.0


def test_to_dict_keeps_the_histogram_without_its_empty_ends() -> None:
    x = np.array([2.0**-24, 0.5, 3.0], np.float16)
    entry: dict[str, Any] = ranges.of(x, "reference").to_dict()
    assert (entry["first"], sum(entry["exponents"]), len(entry["exponents"])) == (-24, 3, 26)
    assert Ranges((0,) * 47).to_dict()["exponents"] == []


def test_words_name_what_is_remarkable() -> None:
    x = np.array([0.0, 2.0**-20, 60000.0, np.nan, 1e-9, 1e9], np.float32)
    words = ranges.of(x, "reference").in_words()
    assert words == (
        "2^-20 to 2^16, 17 % zero, 17 % subnormal, 17 % near 65504, 1 below 2^-25, 1 beyond 65504, 1 NaN"
    )


def test_percent_never_says_nothing_or_all_where_it_is_not() -> None:
    assert [percent(s) for s in (0.0, 1e-6, 0.5, 1 - 1e-6, 1.0)] == ["0 %", "<1 %", "50 %", ">99 %", "100 %"]
