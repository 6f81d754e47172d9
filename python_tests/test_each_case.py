"""A test of many cases runs them all and names those that fail."""

from __future__ import annotations

import pytest
from each_case import check_each


def test_every_failure_is_named_and_none_hides_another() -> None:
    seen = []

    def check(value: int) -> None:
        seen.append(value)
        if value == 4:
            pytest.fail("not four")
        assert value % 2, f"{value} is even"

    named: list[str] = []
    with pytest.raises(pytest.fail.Exception) as caught:
        check_each({name: (value,) for value, name in enumerate("abcde", 1)}, check, named.append)
    text = str(caught.value)
    assert seen == [1, 2, 3, 4, 5] and named == list("abcde")
    assert text.startswith("2 of 5 cases failed:\nb: AssertionError: 2 is even\nd: Failed: not four\n")
    assert "Traceback" in text and "c: " not in text
    check_each({"a": (1,), "c": (3,)}, check)


def test_no_case_is_a_failure() -> None:
    with pytest.raises(AssertionError):
        check_each({}, print)
