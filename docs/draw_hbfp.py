"""Draws docs/hbfp.svg: a block of values in FP32, and in HBFP2 and HBFP4. Needs the extra `report`."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import fp16engine as fe
from fp16engine.backend.blocks import Blocks

VALUES = np.array([0.62, -0.9, 0.08, 1.7, -0.03, 0.33, -1.25, 0.01], np.float32)


def main() -> None:
    """Write the picture next to this script."""
    matplotlib.rcParams.update({"svg.hashsalt": "fp16engine", "svg.fonttype": "none", "font.size": 9.5})
    reference = fe.backend.get("reference")
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    for row, mantissa in enumerate((2, 4)):
        axes = figure.add_subplot(2, 1, row + 1)
        rounded = reference.quantize(VALUES, Blocks((1, 1, 8), 2), fe.BlockFormat(mantissa))
        step = 2.0 ** (1 - mantissa)  # the largest is 1.7, so the shared exponent is 1
        for level in np.arange(-(2**mantissa) + 1, 2**mantissa) * step:
            axes.axhline(level, color="#d5dae1", linewidth=0.7, zorder=0)
        x = np.arange(len(VALUES))
        axes.vlines(x, VALUES, rounded, color="#D55E00", linewidth=2)
        axes.plot(x, VALUES, "o", color="#1f2933", label="FP32")
        axes.plot(
            x, rounded, "s", color="#0072B2", markersize=7, markerfacecolor="none", label=f"HBFP{mantissa}"
        )
        axes.set(
            title=f"HBFP{mantissa}: the largest of the block is 1.7 ≤ 2¹, so all are multiples of {step:g}",
            ylim=(-2.05, 2.05), yticks=[-2, -1, 0, 1, 2], xticks=x, xticklabels=[f"{v:g}" for v in VALUES],
        )  # fmt: skip
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, ncols=2, loc="lower left")
    figure.savefig(Path(__file__).with_name("hbfp.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
