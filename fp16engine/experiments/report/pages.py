"""report.html: a comparison as a page that needs nothing but itself. Needs the extra `report`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...numerics.confusion import WIDEST
from ...reporting.files import write_atomically
from ...reporting.tables import shortened
from ...validate import must_be, printable
from . import gallery, page_plots, verdict
from .labels import NOTHING, PAGE_COLOURS, epochs, label, scientific, style
from .spread import Spread

if TYPE_CHECKING:
    from jinja2 import Environment

    from ...data import Dataset
    from .explained import Example
    from .page_plots import Scatter

REPORT = "report.html"
_CHOICES = {
    "storage": "Tensors are stored in",
    "operand": "Dot-product operands",
    "accumulate": "Sums accumulate in",
    "statistics": "Norm statistics",
    "update": "Weight update",
    "loss_scale": "Loss scale",
    "convolution": "Convolutions by",
}


def missing() -> str | None:
    """Return a sentence that says how to get plots and report, or None if they can be made."""
    lacking = [name for name in ("matplotlib", "jinja2") if importlib.util.find_spec(name) is None]
    if not lacking:
        return None
    verb = "is" if len(lacking) == 1 else "are"
    return (
        f"No plots and no report.html, because {' and '.join(lacking)} {verb} not installed. To get them:"
        " pip install 'fp16engine[report]', then the same command with --resume."
    )


def write(summary: dict[str, Any], scatters: list[Scatter], dataset: Dataset, out: Path) -> Path:
    """Draw the plots into out/plots (PNG and SVG) and write out/report.html; return its path.

    summary: the contents of `summary.json`; scatters: the last epoch's samples, one entry per pair; dataset:
    its test images are shown.
    """
    main = verdict.main(summary["verdicts"])
    examples = _examples(scatters, main["precision"] if main else None)
    shown = {image["index"] for pair in summary["disagreements"] for image in pair["images"]}
    shown |= {one.index for one in examples}
    folder = out / page_plots.PLOTS
    plots = page_plots.of_comparison(summary, scatters, folder)
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            s=summary,
            main=main,
            class_rows=gallery.class_rows(summary["per_class"], main["precision"] if main else None),
            confusions=gallery.confusions,
            widest=WIDEST,
            pictures=gallery.pictures(dataset, sorted(shown)),
            first=page_plots.of_seed(summary),
            spreads=_spreads(summary),
            plots=plots,
            explained=[
                (one.index, plot)
                for one, plot in zip(
                    examples, page_plots.of_examples(examples, summary, dataset, folder), strict=True
                )
            ],
            heats=page_plots.of_monitors(summary, out),
            choices=_CHOICES,
            date=summary["finished"][:10],
        )
    )
    path = out / REPORT
    write_atomically(path, page)
    return path


def environment() -> Environment:
    """Return jinja's environment with the templates of this package and the filters they use."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("fp16engine.experiments.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "label": label,
        "colour": lambda name: PAGE_COLOURS.get(style(name).colour, style(name).colour),
        "percent": lambda value: NOTHING if value is None else verdict.percent(value),
        "megabytes": lambda value: NOTHING if value is None else f"{value / 1e6:,.1f} MB",
        "seconds": lambda value: NOTHING if value is None else f"{value:,.1f} s",
        "rate": lambda value: NOTHING if value is None else f"{value:,.0f}",
        "scientific": scientific,
        "signed": verdict.signed,
        "capital": verdict.capital,
        "epochs": epochs,
        "printable": printable,
        "shortened": shortened,
    }
    return made


def _text(value: Any) -> Any:
    """Let only what has a plain text form into a page; an attribute that turns out a method is an error.

    Text that is no markup is written as a terminal would show it: a name may hold characters that turn the
    text around it.
    """
    from jinja2 import Undefined
    from markupsafe import Markup

    if value is None:
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, str | int | float | Undefined):
        raise TypeError(must_be("report: a value of a page", "text or a number", type(value)))
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _examples(scatters: list[Scatter], precision: str | None) -> list[Example]:
    """Return the images on which the page explains δ and Γ, of the main pair."""
    from . import explained

    pair = next((one for one in scatters if one.other == precision), scatters[0] if scatters else None)
    return [] if pair is None else explained.choose(pair)


def _spreads(summary: dict[str, Any]) -> list[tuple[str, Spread | None]]:
    """Return the spread of each precision's test accuracy over the seeds; nothing for one seed."""
    if len(summary["seeds"]) == 1:
        return []
    return [
        (name, Spread.of([r["test_accuracy"] for r in summary["runs"] if r["precision"] == name]))
        for name in dict.fromkeys(run["precision"] for run in summary["runs"])
    ]
