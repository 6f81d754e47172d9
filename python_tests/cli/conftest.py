"""Commands without pictures, but where a test asks for them by the fixture `drawn`."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _undrawn(undrawn: None) -> None:
    """The same for every test of this folder."""


@pytest.fixture(autouse=True, scope="module")
def _small_dnn(small_dnn: None) -> None:
    """The same for every test of this folder."""
