"""What the name of a preset stands for."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..block_format import BlockFormat
from ..loss_scale import LossScale
from ..operand_plan import OperandPlan
from ..validate import must_be
from .choices import CONVOLUTIONS, UPDATES, is_chunked


def _choices(storage: str, accumulate: str, statistics: str, convolution: str = "direct") -> dict[str, Any]:
    return {
        "storage": storage,
        "operand": storage,
        "accumulate": accumulate,
        "statistics": statistics,
        "convolution": convolution,
    }


# The choices of each preset; the table is not made of `Precision`, which checks its name against it.
PRESETS: dict[str, dict[str, Any]] = {
    "fp32": _choices("float32", "float32", "float32", "winograd"),
    "fp16": _choices("float16", "float32", "float16", "winograd"),
    "fp16-strict": _choices("float16", "float16", "float16"),
    "mp": {
        **_choices("float16", "float32", "float32", "winograd"),
        "update": "master32",
        "loss_scale": LossScale(),
    },
}
_BF16 = _choices("bfloat16", "float32", "bfloat16", "winograd")
# Presets that not every device runs.
_OTHERS: dict[str, dict[str, Any]] = {
    "bf16": _BF16,
    "bf16-sr": {**_BF16, "update": "stochastic"},
    "tf32": {**_choices("float32", "float32", "float32"), "operand": "tf32"},
}
# What may follow a preset's name after "+", and the choice it stands for.
SUFFIXES: dict[str, tuple[str, Any]] = {
    **{update: ("update", update) for update in UPDATES},
    "auto-scale": ("loss_scale", LossScale.from_histogram()),
    "no-scale": ("loss_scale", None),
    "plain-statistics": ("statistics_form", "plain"),
    **{convolution: ("convolution", convolution) for convolution in CONVOLUTIONS},
}
DEFAULTS = {"update": "nearest", "loss_scale": None, "statistics_form": "native", "convolution": "direct"}
ORDER = [*SUFFIXES].index  # of suffixes, so that one policy has one name
_HYBRID = re.compile(
    r"(?P<family>hbfp\d+|booster(?:-k(?P<late>\d+))?)(?P<format>(?:-[bte]\d+|-sr)*)(?:-w(?P<kept>\d+))?"
)


def suffix(field: str, value: Any) -> str:
    for name, named in SUFFIXES.items():
        if named == (field, value):
            return name
    if field not in DEFAULTS:
        raise ValueError(must_be("changed: choices", f"of {', '.join(DEFAULTS)}", field))
    raise ValueError(
        must_be(field, "a choice that has a name", value) + "; give the policy a name of its own"
    )


@functools.lru_cache(maxsize=256)
def meaning(name: str) -> dict[str, Any] | None:
    """Return the choices that a preset's name stands for; None for a name that is no preset's."""
    base, *suffixes = name.split("+")
    if suffixes:
        return _suffixed(base, suffixes)
    if name in PRESETS or name in _OTHERS:
        return PRESETS.get(name) or _OTHERS[name]
    accumulate = f"float16:{name.removeprefix('fp16-chunk')}"
    if name.startswith("fp16-chunk") and is_chunked(accumulate):
        return _choices("float16", accumulate, "float16")
    match = _HYBRID.fullmatch(name)
    return None if match is None else _hybrid(match)


def _suffixed(base: str, suffixes: Sequence[str]) -> dict[str, Any] | None:
    """Return a preset's choices with those of `suffixes`: each names one choice, once, and another."""
    meant = meaning(base)
    if meant is None or any(suffix not in SUFFIXES for suffix in suffixes):
        return None
    choices = dict(SUFFIXES[suffix] for suffix in suffixes)
    if len(choices) < len(suffixes) or any(
        meant.get(field, DEFAULTS[field]) == value for field, value in choices.items()
    ):
        return None
    name = "+".join((meant.get("name", base), *sorted(suffixes, key=ORDER)))
    return {**meant, **choices, "name": name}


def _hybrid(match: re.Match[str]) -> dict[str, Any]:
    """Block floating point for dot products, binary32 for the rest; `name` is the short one."""
    booster = match["family"].startswith("booster")
    try:
        base = BlockFormat.named(("hbfp4" if booster else match["family"]) + match["format"])
        plan = None
        if booster:
            better = replace(base, mantissa=6)
            plan = OperandPlan(edges=better, late=better, late_epochs=int(match["late"] or 1))
        kept = None if match["kept"] is None else replace(base, mantissa=int(match["kept"]))
    except ValueError as error:
        raise ValueError(f"precision: {error}") from None
    family = ("booster" + (f"-k{plan.late_epochs}" if plan.late_epochs > 1 else "")) if plan else ""
    short = base.name if plan is None else family + base.name.removeprefix("hbfp4")
    return {
        **_choices("float32", "float32", "float32"),
        "name": short if kept is None else f"{short}-w{kept.mantissa}",
        "operand": base,
        "plan": plan,
        "weights": kept,
    }
