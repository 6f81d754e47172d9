"""`train --watch`: the number line of every layer, live in the terminal, as the monitor sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..numerics.ranges import LOWEST, Ranges, percent
from .history import EpochRecord
from .progress import _Clock, epoch_line, loss_text

if TYPE_CHECKING:
    from ..numerics.monitor import Row, Sample

_BARS = " ▁▂▃▄▅▆▇█"
_PER_CHARACTER = 2  # exponents in a character of the histogram
_AROUND = 9  # lines of the screen that are not layers
_LEAST = 6  # layers shown on the smallest screen


def sparkline(ranges: Ranges) -> str:
    """Return a histogram of exponents, 2^-24 at the left, 2^15 at the right; heights grow with the logarithm.

    >>> import numpy as np
    >>> from fp16engine.numerics.ranges import of
    >>> sparkline(of(np.array([1.0, 1.5], np.float16), "reference"))
    '            █       '
    """
    pairs = zip(ranges.exponents[::_PER_CHARACTER], ranges.exponents[1::_PER_CHARACTER], strict=True)
    counts = [a + b for a, b in pairs]
    most = max(counts, default=0)
    if not most:
        return " " * len(counts)
    top = len(_BARS) - 1
    # a factor of ten less is two steps lower; whatever is there at all is seen
    heights = [0 if n == 0 else max(1, top - round(2 * (len(str(most)) - len(str(n))))) for n in counts]
    return "".join(_BARS[height] for height in heights)


class LiveView:
    """A `Reporter` that shows, per layer, histograms of activations and gradients and the lost updates."""

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True)
        self._live: Any = None
        self._epochs = self._steps = 0
        self._line = ""
        self._sample: Sample | None = None
        self._advice: dict[str, None] = {}
        self._underflow: dict[str, float] = {}  # of the last sample that had a shadow of it
        self._clock = _Clock(0, 0)

    def begin(self, title: str, epochs: int, total_steps: int, done_steps: int) -> None:
        """See Reporter."""
        from rich.live import Live

        self._epochs, self._steps = epochs, total_steps
        self._clock = _Clock(total_steps, done_steps)
        self._console.print(title, highlight=False, markup=False)
        self._live = Live(self, console=self._console, transient=True, refresh_per_second=4)
        self._live.start()

    def step(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        """See Reporter."""
        self._line = (
            f"epoch {epoch}/{self._epochs}  step {step}/{self._steps}  loss {loss_text(loss)}  "
            f"{images_per_second:,.0f} img/s  {self._clock.left(step)}"
        )

    def sample(self, sample: Sample) -> None:
        """Take what the monitor saw."""
        self._sample = sample
        self._advice |= dict.fromkeys(finding.text for finding in sample.findings)
        self._underflow |= {
            row.layer: row.underflow
            for row in sample.rows
            if row.kind == "activation gradients" and row.shadowed
        }

    def epoch(self, record: EpochRecord) -> None:
        """See Reporter."""
        self.note(epoch_line(record, self._epochs))

    def note(self, text: str) -> None:
        """See Reporter."""
        self._console.print(text, highlight=False, markup=False)

    def end(self) -> None:
        """See Reporter."""
        if self._live is not None:
            self._live.stop()

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [Text(self._line, no_wrap=True)]
        if self._sample is not None:
            parts.append(self._table(self._sample))
            parts += [Text(line, style="bold red") for line in list(self._advice)[-3:]]
        return Group(*parts)

    def _table(self, sample: Sample) -> Any:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column(f"step {sample.step}", no_wrap=True)
        for head in ("activations", "gradients passed back"):
            table.add_column(f"{head}\n2^{LOWEST}{'2^0':>9}{'2^15':>8}", no_wrap=True)
        for head in ("largest\nactivation", "underflow\nto 0", "subnormal\ngradients", "updates\nlost"):
            table.add_column(head, justify="right", no_wrap=True)
        forward = {row.layer: row for row in sample.rows if row.kind == "activations"}
        backward = {row.layer: row for row in sample.rows if row.kind == "activation gradients"}
        lost = {row.layer: row.share for row in sample.updates}
        layers = [layer for layer in {**forward, **lost} if layer != "loss"]
        for layer in self._worst(layers, backward, lost):
            table.add_row(
                layer, *self._cells(layer, forward.get(layer), backward.get(layer), lost.get(layer))
            )
        return table

    def _cells(self, layer: str, forward: Row | None, backward: Row | None, lost: float | None) -> list[str]:
        span = forward.ranges.exponent_range if forward else None
        return [
            sparkline(forward.ranges) if forward else "",
            sparkline(backward.ranges) if backward else "",
            f"2^{span[1]}" if span else "",
            percent(self._underflow[layer]) if layer in self._underflow else "",
            percent(backward.ranges.share(backward.ranges.subnormal)) if backward else "",
            "" if lost is None else percent(lost),
        ]

    def _worst(self, layers: list[str], backward: dict[str, Row], lost: dict[str, float]) -> list[str]:
        """Those layers that fit on the screen, in the network's order: the ones in the deepest trouble."""
        room = max(_LEAST, self._console.size.height - _AROUND)

        def trouble(layer: str) -> float:
            row = backward.get(layer)
            small = row.ranges.share(row.ranges.subnormal) if row else 0.0
            return max(lost.get(layer, 0.0), self._underflow.get(layer, 0.0), small / 2)

        chosen = set(sorted(layers, key=trouble, reverse=True)[:room])
        return [layer for layer in layers if layer in chosen]
