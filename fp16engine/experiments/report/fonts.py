"""The fonts of plots: matplotlib's own, then what this machine has for names in other scripts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_OWN = "DejaVu Sans"  # comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew
_OTHERS = (
    # Chinese, Japanese, Korean: Debian and other Linux, Windows, macOS
    *(
        "Noto Sans CJK SC",
        "Noto Sans CJK JP",
        "Noto Sans CJK KR",
        "Noto Sans SC",
        "Noto Sans JP",
        "Noto Sans KR",
    ),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAGothic", "NanumGothic"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "Meiryo", "MS Gothic", "Malgun Gothic"),
    *("PingFang SC", "Hiragino Sans GB", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),
    # Thai
    *("Noto Sans Thai", "Loma", "Garuda", "Leelawadee UI", "Tahoma", "Thonburi"),
    # Indian scripts
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Nirmala UI"),
)


@cache
def families() -> list[str]:
    """Return the families of plots: for each letter matplotlib takes the first that has it."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [_OWN, *(name for name in _OTHERS if name in installed)]


@contextmanager
def without_warnings() -> Iterator[None]:
    """A letter that no font here has becomes a box in PNG; in a page the browser has fonts of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield
