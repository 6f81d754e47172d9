"""Many cases in one test: each that fails is named, and none hides another."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest


def check_each(
    cases: Mapping[str, tuple[Any, ...]],
    check: Callable[..., None],
    before: Callable[[str], None] = lambda name: None,
) -> None:
    """Call `check(*arguments)` for every case, after `before(name)`; fail at the end with a line per failure.

    The first failure is shown with its traceback.
    """
    assert cases
    failures, first = [], ""
    for name, arguments in cases.items():
        before(name)
        try:
            check(*arguments)
        except (Exception, pytest.fail.Exception) as error:
            first = first or traceback.format_exc()
            failures.append(f"{name}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
    if failures:
        lines = "\n".join(failures)
        pytest.fail(
            f"{len(failures)} of {len(cases)} cases failed:\n{lines}\n\nThe first:\n{first}", pytrace=False
        )
