"""Accuracy Boosters (2211.10737) as experiments: Tables I and II, Figures 1 and 2 of trained networks.

The paper does not print its learning rate, schedule or augmentation; `TRAINING` is the usual recipe of these
networks on CIFAR. It trains CIFAR-100 longer, so that half of each table is an experiment of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...precision import Precision
from ..experiment import Arm, Case, Experiment, Results, plain_arms
from ..report.parts import Claim, Column, Part, Picture, Table
from ..standalone_fp16.figures import figure4
from ..standalone_fp16.tables import spread
from . import area

TRAINING = {
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "schedule": "cosine",
    "augment": "crop-flip",
}
EPOCHS, BATCH = 160, 128  # of CIFAR-10
SIX_BLOCKS, FOUR_BLOCKS = (16, 25, 36, 49, 64, 256, 576), (16, 25, 36, 49, 64, 256, 576)

# Top-1 accuracy in %, Tables I and II, by (model, data) and format.
PAPER: dict[tuple[str, str], dict[str, float]] = {
    ("resnet20", "cifar10"): {
        "fp32": 91.72, "hbfp8-b576": 91.52,
        "hbfp6-b16": 91.12, "hbfp6-b25": 91.09, "hbfp6-b36": 91.29, "hbfp6-b49": 91.33, "hbfp6": 91.12,
        "hbfp6-b256": 91.38, "hbfp6-b576": 90.65,
        "hbfp4-b16": 82.59, "hbfp4-b25": 81.82, "hbfp4-b36": 80.84, "hbfp4-b49": 79.32, "hbfp4": 80.18,
        "hbfp4-b256": 76.96, "hbfp4-b576": 75.33,
        "booster": 91.24, "booster-k10": 91.36,
    },
    ("resnet74", "cifar10"): {
        "fp32": 93.57, "hbfp8-b576": 93.36,
        "hbfp6-b16": 93.38, "hbfp6-b25": 92.54, "hbfp6-b36": 92.61, "hbfp6-b49": 92.93, "hbfp6": 92.93,
        "hbfp6-b256": 92.79, "hbfp6-b576": 92.19,
        "hbfp4-b16": 76.85, "hbfp4-b25": 78.62, "hbfp4-b36": 76.64, "hbfp4-b49": 71.19, "hbfp4": 74.35,
        "hbfp4-b256": 60.65, "hbfp4-b576": 66.70,
        "booster": 92.62, "booster-k10": 93.02,
    },
    ("resnet74", "cifar100"): {
        "fp32": 74.55, "hbfp8-b576": 74.32,
        "hbfp6-b16": 73.51, "hbfp6-b25": 73.20, "hbfp6-b36": 72.87, "hbfp6-b49": 72.40, "hbfp6": 72.53,
        "hbfp6-b256": 72.51,
        "booster": 73.74, "booster-k10": 74.28,
    },
    ("densenet40", "cifar100"): {
        "fp32": 72.42, "hbfp8-b576": 73.73,
        "hbfp6-b16": 72.08, "hbfp6-b25": 71.77, "hbfp6-b36": 71.83, "hbfp6-b49": 71.87, "hbfp6": 71.81,
        "hbfp6-b256": 71.50, "hbfp6-b576": 71.02,
        "hbfp4-b16": 63.70, "hbfp4-b25": 64.25, "hbfp4-b36": 63.34, "hbfp4-b49": 65.55, "hbfp4": 62.37,
        "hbfp4-b256": 60.02, "hbfp4-b576": 59.77,
        "booster": 73.61, "booster-k10": 74.10,
    },
}  # fmt: skip
# Gain in arithmetic density over FP32, Table I and the text.
PAPER_GAINS = {
    ("bf16", 64): 4.9, ("hbfp8", 576): 10.0,
    ("hbfp6", 16): 11.2, ("hbfp6", 25): 12.3, ("hbfp6", 36): 13.1, ("hbfp6", 49): 13.6, ("hbfp6", 64): 13.9,
    ("hbfp6", 256): 14.8, ("hbfp6", 576): 15.0,
    ("hbfp4", 16): 15.5, ("hbfp4", 25): 17.8, ("hbfp4", 36): 19.3, ("hbfp4", 49): 20.4, ("hbfp4", 64): 21.3,
    ("hbfp4", 256): 23.4, ("hbfp4", 576): 23.9,
}  # fmt: skip


def _gain(value: float) -> str:
    return f"{value:.1f}x"


def format_gain(precision: str) -> float | None:
    """Return the modelled density over FP32 of a policy's own operand format; None if that is no block."""
    fmt = Precision.get(precision).block_format
    return None if fmt is None else area.gain(area.block_unit(fmt.mantissa, fmt.block), fmt.block)


def density() -> Table:
    """Return the density of every format of the paper and its neighbours: ours, from gates, and the paper's.

    >>> density().rows[0]["format"]
    'FP32'
    """
    rows: list[dict[str, Any]] = []
    for block in (16, 64, 256, 576):
        for f in (area.FP32, area.FP16, area.BF16):
            rows.append(
                {"format": f.name, "block": block, "gain": area.gain(area.float_unit(f, block), block)}
            )
    for mantissa in (8, 6, 5, 4):
        for block in SIX_BLOCKS:
            plain, narrow = (area.block_unit(mantissa, block, narrow=form) for form in (False, True))
            gains = {"gain": area.gain(plain, block), "narrow": area.gain(narrow, block)}
            rows.append({"format": f"HBFP{mantissa}", "block": block, **gains})
    for row in rows:
        row["paper"] = PAPER_GAINS.get((row["format"].lower(), row["block"]))
        row.setdefault("narrow", None)
        for ratio, gain in (("ratio", "gain"), ("narrow_ratio", "narrow")):
            row[ratio] = row[gain] / row["paper"] if row["paper"] and row[gain] else None
    columns = [
        Column("format", "format", left=True),
        Column("block", "terms of a unit"),
        Column("gain", "ours", _gain, "gain over FP32"),
        Column("paper", "paper", _gain, "gain over FP32"),
        Column("ratio", "ours / paper", "{:.2f}".format),
        Column("narrow", "m x m bits", _gain, "gain over FP32"),
        Column("narrow_ratio", "m x m bits / paper", "{:.2f}".format),
    ]
    note = (
        "Areas of dot-product units counted in gates; assumptions in docs/hbfp.md. Nothing is fitted. "
        "m x m bits: multipliers with the sign inside the mantissa, and a comparison of exponents for each "
        "product."
    )
    return Table("density", "Arithmetic density of formats", columns, rows, note)


def accuracy_table(results: Results) -> list[Part]:
    """Return test accuracies by format and network, ours next to the paper's, and the format's density."""
    rows = []
    for arm in results.arms:
        row: dict[str, Any] = {"precision": arm.label, "gain": format_gain(arm.precision)}
        for case in results.cases:
            row[case.model] = results.spread(case, arm.label, "test_accuracy")
            row[f"paper_{case.model}"] = PAPER.get((case.model, case.data), {}).get(arm.precision)
        rows.append(row)
    columns = [
        Column("precision", "precision", left=True),
        Column("gain", "density over FP32, modelled", _gain),
    ]
    for case in results.cases:
        group = f"{case.model}, {case.data}"
        columns.append(Column(case.model, "ours", spread, group))
        columns.append(Column(f"paper_{case.model}", "paper", "{:.2f}".format, group))
    name = results.experiment.name
    curves = [
        replace(part, name=f"{name}-curves") if isinstance(part, Picture) else part
        for part in figure4(results)
    ]
    return [Table(name, "Test accuracy, %", columns, rows), *_recovered(results), *curves]


def _recovered(results: Results) -> list[Part]:
    """What the booster won back of HBFP4's loss."""
    said: list[Part] = []
    for case in results.cases:
        ends = {
            arm.precision: found.mean
            for arm in results.arms
            if (found := results.spread(case, arm.label, "test_accuracy"))
        }
        if {"fp32", "hbfp4", "booster"} <= set(ends):
            lost = 100 * (ends["fp32"] - ends["hbfp4"])
            won = 100 * (ends["booster"] - ends["hbfp4"])
            said.append(
                Claim(
                    f"{case.model}: HBFP4 is {lost:.1f} points below FP32, the booster {won:.1f} above HBFP4."
                )
            )
    return said


def _table(name: str, title: str, claim: str, arms: tuple[Arm, ...], data: str, epochs: int) -> Experiment:
    models = ("resnet20", "resnet74") if data == "cifar10" else ("resnet74", "densenet40")
    return Experiment(
        name=name,
        title=title,
        claim=claim,
        cases=tuple(Case(model, data) for model in models),
        arms=arms,
        seeds=1,
        epochs=epochs,
        batch_size=BATCH,
        training=TRAINING,
        report=accuracy_table,
    )


_FORMATS = plain_arms(
    "fp32",
    "hbfp8-b576",
    *(Precision.get(f"hbfp6-b{block}").name for block in SIX_BLOCKS),
    *(Precision.get(f"hbfp4-b{block}").name for block in FOUR_BLOCKS),
)
_BOOSTERS = plain_arms("fp32", "hbfp8", "hbfp6", "hbfp4", "booster", "booster-k10")
_SIX = (
    "HBFP6 is within 2 points of FP32 at blocks up to 256; HBFP4 is far below, the more so with large blocks."
)
_BOOST = "HBFP4 with HBFP6 in the last epoch and the first and last layers is as good as FP32."

_ALL = (
    _table("hbfp-table1", "Table I: block floating point on CIFAR-10", _SIX, _FORMATS, "cifar10", 160),
    _table("hbfp-table1-cifar100", "Table I: on CIFAR-100", _SIX, _FORMATS, "cifar100", 300),
    _table("hbfp-table2", "Table II: Accuracy Boosters on CIFAR-10", _BOOST, _BOOSTERS, "cifar10", 160),
    _table("hbfp-table2-cifar100", "Table II: on CIFAR-100", _BOOST, _BOOSTERS, "cifar100", 300),
)
EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}
