"""Reports without pictures, but where a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fp16engine.experiments.report import plots


@pytest.fixture
def drawn() -> None:
    """Asks for pictures."""


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures are made but not drawn: that takes ten times as long as all the rest of a tiny comparison."""
    with pytest.MonkeyPatch.context() as patch:
        if "drawn" not in request.fixturenames:
            patch.setattr(plots, "save", lambda figure, folder, name: "<svg></svg>")
        yield
