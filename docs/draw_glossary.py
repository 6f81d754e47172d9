"""Draws the pictures of docs/glossary.md, docs/glossary-*.svg. Needs the extra `report`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import fp16engine as fe
from fp16engine.numerics import audit_step, delta, gamma_sound, lockstep

INK, FP32, FP16, GREEN, LINE = "#1f2933", "#D55E00", "#0072B2", "#009E73", "#d5dae1"
P, Q = (
    np.array([[0.62, 0.25, 0.13]]),
    np.array([[0.56, 0.28, 0.16]]),
)  # FP32's answer for an image, and FP16's
CLASSES = ("cat", "dog", "owl")
TERMS = 2 ** np.arange(2, 15)


def draw_delta(axes: Axes) -> None:
    """Draw both networks' probabilities of each class, and the largest difference."""
    x = np.arange(3)
    axes.bar(x - 0.2, P[0], 0.36, color=FP32, label="FP32: p")
    axes.bar(x + 0.2, Q[0], 0.36, color=FP16, label="FP16: q")
    worst = int(np.argmax(abs(P - Q)))
    low, high = sorted((P[0, worst], Q[0, worst]))
    axes.plot([worst - 0.4, worst + 0.9], [high, high], color=INK, linewidth=0.8)
    axes.plot([worst + 0.2, worst + 0.9], [low, low], color=INK, linewidth=0.8)
    axes.text(worst + 0.95, (low + high) / 2, f"δ = {delta(P, Q)[0]:.2f}", va="center", color=INK)
    axes.set(xticks=x, xticklabels=CLASSES, ylim=(0, 0.75), ylabel="probability")
    axes.set_title("δ: the largest difference of two networks' probabilities")
    axes.legend(frameon=False)


def draw_gamma(axes: Axes) -> None:
    """Draw the reference's probabilities, and how far the first is ahead of the second."""
    axes.bar(np.arange(3), P[0], 0.5, color=FP32)
    first, second = np.sort(P[0])[::-1][:2]
    axes.plot([-0.25, 1.5], [first, first], color=INK, linewidth=0.8)
    axes.plot([0.75, 1.5], [second, second], color=INK, linewidth=0.8)
    axes.annotate("", (1.45, first), (1.45, second), arrowprops={"arrowstyle": "<->", "color": INK})
    gamma, distance = gamma_sound(P)[0], delta(P, Q)[0]
    axes.text(1.55, (first + second) / 2, f"Γ = {gamma:.2f}", va="center", color=INK)
    axes.text(1.2, 0.68, f"Γ > 2δ = {2 * distance:.2f}: FP16 must say “cat”, too", color=GREEN)
    axes.set(xticks=np.arange(3), xticklabels=CLASSES, ylim=(0, 0.75), xlim=(-0.5, 3.2), ylabel="FP32: p")
    axes.set_title("Γ: how far the first choice is ahead of the second")


def draw_strict(axes: Axes) -> None:
    """Draw the error of a sum of products over its length, by accumulator."""
    rng = np.random.default_rng(0)
    backend = fe.backend.get("reference")
    for name, colour in (("fp16-strict", FP32), ("fp16-chunk32", GREEN), ("fp16", FP16)):
        errors = []
        for terms in TERMS:
            a = rng.uniform(0, 1, (16, terms)).astype(np.float16)
            b = rng.uniform(0, 1, (16, terms)).astype(np.float16)
            acc = fe.Precision.get(name).accumulate
            found = backend.linear_forward(a, b, None, acc).astype(float)
            exact = a.astype(float) @ b.T.astype(float)
            errors.append(1e4 * np.mean(abs(found - exact) / exact))
        axes.plot(TERMS, errors, "o-", color=colour, label=name, markersize=3.5)
    axes.set(xscale="log", ylim=(0, 6.5), xlabel="terms of the sum", ylabel="mean relative error, 10⁻⁴")
    axes.set_title("strict: every partial sum is FP16")
    axes.legend(frameon=False)


def draw_audit(axes: Axes) -> None:
    """Draw the types of the operations of a step, under `fp16` and under `mp`."""
    shown = ("linear_forward", "cross_entropy_forward", "linear_backward", "sgd")
    columns = ("stored", "added up in")
    rows: list[str] = []
    cells: dict[tuple[str, str], tuple[str, str]] = {}
    digits = fe.data.digits().limit(32)
    for precision in ("fp16", "mp"):
        model = fe.models.create("dnn", image_size=8, channels=1)
        trainer = fe.Trainer(model, precision, lr=0.05)
        found = audit_step(trainer, digits.normalised("train", "float16"), digits.train.labels)
        for row in found.rows:
            if row.op not in shown:
                continue
            stored = {dtype for _, dtype in row.inputs + row.outputs}
            rows += [row.op] * (row.op not in rows)
            cells[precision, row.op] = ("float32" if "float32" in stored else "float16", row.accumulator)
    words = {"float16": "FP16", "float32": "FP32", "none": "none"}
    colours = {"float16": FP16, "float32": FP32, "none": LINE}
    for i, precision in enumerate(("fp16", "mp")):
        for j, column in enumerate(columns):
            x = 2.3 * i + j
            axes.text(x, -0.75, column, ha="center", color=INK)
            for y, op in enumerate(rows):
                kind = cells[precision, op][j]
                axes.barh(y, 0.92, 0.8, x - 0.46, color=colours[kind])
                axes.text(
                    x, y, words[kind], ha="center", va="center", color=INK if kind == "none" else "white"
                )
        axes.text(2.3 * i + 0.5, -1.35, precision, ha="center", weight="bold", color=INK)
    axes.set(yticks=range(len(rows)), yticklabels=rows, xticks=[], ylim=(len(rows) - 0.4, -1.7))
    axes.set_title("audit: the types of every operation of a step")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(left=False)


def draw_booster(axes: Axes) -> None:
    """Draw the mantissa of every layer in every epoch."""
    layers, epochs = ("first layer", "layer 2", "layer 3", "layer 4", "last layer"), 8
    for y, _ in enumerate(layers):
        for epoch in range(epochs):
            bits = 6 if epoch == epochs - 1 or y in (0, len(layers) - 1) else 4
            axes.barh(y, 0.94, 0.86, epoch + 0.53, color=FP16 if bits == 6 else "#9ecae1")
            axes.text(epoch + 1, y, bits, ha="center", va="center", color="white" if bits == 6 else INK)
    axes.set(yticks=range(len(layers)), yticklabels=layers, xticks=range(1, epochs + 1), xlabel="epoch")
    axes.invert_yaxis()
    axes.set_title("booster: bits of mantissa in the products of each layer")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(left=False, bottom=False)


def draw_lock_step(axes: Axes) -> None:
    """Draw the error of every operation's output between FP16 and FP32, and its bound."""
    digits = fe.data.digits().limit(64)
    step = lockstep.compare(
        lambda: fe.models.create("resnet8", image_size=8, channels=1),
        digits.normalised("train", "float32"),
        digits.train.labels,
    )
    for phase, colour in (("forward", FP16), ("backward", GREEN)):
        rows = [row for row in step.rows if row.phase == phase]
        x = [row.roundings for row in rows]
        axes.plot(x, [row.relative_error for row in rows], "o", color=colour, label=phase, markersize=3.5)
        axes.plot(x, [row.bound for row in rows], color=colour, linewidth=1)
    axes.set(yscale="log", xlabel="operation", ylabel="relative error, FP16 to FP32")
    axes.set_title("lock step: one batch, two precisions, operation by operation")
    axes.legend(frameon=False, title="points: error, line: bound")


PICTURES: dict[str, tuple[Callable[[Axes], None], float]] = {
    "delta": (draw_delta, 2.6),
    "gamma": (draw_gamma, 2.6),
    "strict": (draw_strict, 2.8),
    "audit": (draw_audit, 2.5),
    "booster": (draw_booster, 2.4),
    "lock-step": (draw_lock_step, 3.0),
}


def main() -> None:
    """Write the pictures next to this script."""
    matplotlib.rcParams.update({"svg.hashsalt": "fp16engine", "svg.fonttype": "none", "font.size": 9.5})
    for name, (draw, height) in PICTURES.items():
        figure = Figure(figsize=(6.4, height), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        file = Path(__file__).with_name(f"glossary-{name}.svg")
        figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
