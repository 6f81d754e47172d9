"""Checks of arguments: what they take, and the one order of their errors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fp16engine import validate
from fp16engine.validate import choice, flag, integer, number


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (lambda: number("x", np.float32(0.5), above=0), 0.5),
        (lambda: number("x", 0, minimum=0, below=1), 0.0),
        (lambda: number("x", 1, maximum=1), 1.0),
        (lambda: number("x", np.array(-2.5)), -2.5),
        (lambda: integer("n", np.int64(3), 3), 3),
        (lambda: integer("n", np.array(4), 0, 4), 4),
        (lambda: flag("f", True), True),
        (lambda: choice("c", "b", ("a", "b")), "b"),
    ],
)
def test_valid(check: Callable[[], Any], value: Any) -> None:
    assert check() == value
    assert type(check()) is type(value)


@pytest.mark.parametrize(
    ("check", "error", "text"),
    [
        (lambda: number("lr", float("nan"), above=0), ValueError, "a finite number > 0, got nan"),
        (lambda: number("lr", np.float64("inf"), above=0), ValueError, "a finite number > 0, got inf"),
        (lambda: number("lr", 0, above=0), ValueError, "a finite number > 0, got 0"),
        (lambda: number("lr", -1, minimum=0), ValueError, "a finite number >= 0, got -1"),
        (lambda: number("lr", 1.0, below=1), ValueError, "a finite number < 1, got 1.0"),
        (lambda: number("lr", 2, minimum=0, maximum=1), ValueError, "a finite number from 0 to 1, got 2"),
        (lambda: number("lr", 10**400), ValueError, "a finite number, got an integer of 1329 bits"),
        (lambda: number("lr", "0.1"), TypeError, "a finite number, got '0.1'"),
        (lambda: number("lr", True), TypeError, "a finite number, got True"),
        (lambda: number("lr", None), TypeError, "a finite number, got None"),
        (lambda: integer("lr", 0, 1), ValueError, "an integer >= 1, got 0"),
        (lambda: integer("lr", 9, 1, 8), ValueError, "an integer from 1 to 8, got 9"),
        (lambda: integer("lr", 1.0, 1), TypeError, "an integer >= 1, got 1.0"),
        (lambda: integer("lr", True, 1), TypeError, "an integer >= 1, got True"),
        (lambda: flag("lr", 1), TypeError, "True or False, got 1"),
        (lambda: choice("lr", "c", ("a", "b")), ValueError, "a or b, got 'c'"),
        (lambda: choice("lr", np.ones(1), "abc"), ValueError, "one of a, b, c, got array([1.])"),
    ],
)  # fmt: skip
def test_invalid(check: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        check()
    assert type(caught.value) is error
    assert str(caught.value) == f"lr must be {text}"


class _Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        [[1] * 10**4] * 10**4,
        10**9999,
        {str(i): i for i in range(10**5)},
        _Broken(),
        np.zeros((50, 50)),
        "a\nb",
    ],
    ids=["text", "lists", "integer", "table", "broken", "array", "lines"],
)
def test_an_error_shows_any_value_in_one_short_line(value: Any) -> None:
    text = validate.shown(value)
    assert 0 < len(text) <= validate.LONGEST
    assert "\n" not in text
