"""Plots with names in any script: fonts that are here are taken, and a missing letter is no warning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("matplotlib")

from matplotlib import font_manager

from fp16engine.experiments.report import explained, fonts, plots


@pytest.fixture(autouse=True)
def _own_families() -> Iterator[None]:
    fonts.families.cache_clear()
    yield
    fonts.families.cache_clear()


def installed(patch: pytest.MonkeyPatch, *names: str) -> None:
    found = SimpleNamespace(ttflist=[SimpleNamespace(name=name) for name in names])
    patch.setattr(font_manager, "fontManager", found)


def test_fonts_that_are_installed_follow_matplotlibs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "Comic Sans MS", "Noto Sans Thai", "DejaVu Sans", "Noto Sans CJK JP")
    assert fonts.families() == ["DejaVu Sans", "Noto Sans CJK JP", "Noto Sans Thai"]


def test_a_letter_that_no_font_has_is_no_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, drawn: None
) -> None:
    with monkeypatch.context() as patch:
        installed(patch, "DejaVu Sans")
        assert fonts.families() == ["DejaVu Sans"]
    with plots.themed():
        figure, _ = plots._figure("猫", "สุนัข", "강아지")
    plots.save(figure, tmp_path, "names")
    assert "猫" in (tmp_path / "names.svg").read_text(encoding="utf-8")


def test_other_warnings_are_kept() -> None:
    with pytest.warns(UserWarning, match="another"), fonts.without_warnings():
        warnings.warn("another", UserWarning, stacklevel=1)


def test_names_under_bars_use_the_room_and_are_no_formulas(tmp_path: Path, drawn: None) -> None:
    import numpy as np

    names = ["automobile", "Golden retriever, adult, outdoors", "犬の写真とても長い", "$\\nothing$", "x" * 40]
    p, q = np.array([0.3, 0.25, 0.2, 0.15, 0.1]), np.array([0.28, 0.27, 0.2, 0.15, 0.1])
    figure = explained.draw(explained.Example(0, "fp32", "fp16", p, q, 0.02, 0.05), names)
    plots.save(figure, tmp_path, "bars")
    under = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert under[:4] == ["automobile", "Golden\nretriever,…", "犬の写真と\nても長い", "$\\nothing$"]
    first, _, rest = under[4].partition("\n")  # how much of the rest is shown depends on Python's version
    assert first == "x" * 11 and rest.endswith("…") and len(rest) <= 11
