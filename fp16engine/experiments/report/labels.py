"""How precisions are called and drawn in tables, plots and reports."""

from __future__ import annotations

from typing import NamedTuple

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"  # in place of a figure that does not exist


class Style(NamedTuple):
    """A display name with a colour of the Okabe-Ito palette, a dash pattern and a marker that differ too."""

    label: str
    colour: str
    dashes: tuple[float, ...]
    marker: str


_STYLES = {
    "fp16": Style("FP16", "#0072B2", (), "o"),
    "fp32": Style("FP32", "#D55E00", (5, 1.5), "s"),
    "bf16": Style("BF16", "#E69F00", (6, 1, 1, 1), "p"),
    "bf16-sr": Style("BF16-SR", "#56B4E9", (3, 1, 1, 1), "h"),
    "mp": Style("mixed precision", "#009E73", (1.5, 1.5), "^"),
    "fp16-strict": Style("FP16 strict", "#CC79A7", (5, 1.5, 1.5, 1.5), "D"),
    "hbfp8": Style("HBFP8", "#56B4E9", (1, 1), "P"),
    "hbfp6": Style("HBFP6", "#0072B2", (4, 1.5), "X"),
    "hbfp4": Style("HBFP4", "#CC79A7", (2, 2), "<"),
    "booster": Style("booster", "#009E73", (), "*"),
    "tf32": Style("TF32", "#E69F00", (3, 1), "v"),
}


# What a page calls the colours that it draws lighter on a dark ground.
PAGE_COLOURS = {"#0072B2": "var(--blue)", "#D55E00": "var(--red)", "#009E73": "var(--green)"}


def style(precision: str) -> Style:
    """Return how a precision is drawn; one without an own style gets its name and a neutral colour."""
    return _STYLES.get(precision, Style(precision, "#8A8A8A", (4, 1, 1, 1), "x"))


def label(precision: str) -> str:
    """Return the display name of a precision, e.g. "FP16" for "fp16"."""
    return style(precision).label


def short(precision: str) -> str:
    """Return the display name of a precision for narrow columns."""
    return "mixed" if precision == "mp" else label(precision)


def scientific(value: float | None) -> str:
    """0.00012 -> "1.2·10⁻⁴", 0.25 -> "0.25", None -> a dash."""
    if value is None:
        return NOTHING
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}·10{superscript(int(exponent))}"


def superscript(number: int) -> str:
    """-12 -> "⁻¹²"."""
    return str(number).replace("-", "⁻").translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def epochs(count: int) -> str:
    """1 -> "1 epoch", 30 -> "30 epochs"."""
    return f"{count} epoch" if count == 1 else f"{count} epochs"
