"""`fp16engine reproduce hbfp-table3`: the Transformer under block floating point, from parallel text."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..validate import must_be, shown
from . import options, translate
from . import reproduce_plan as plan
from .output import print_json

NAME = "hbfp-table3"
NAMES = (NAME,)
_NOT_HERE = (
    "data", "download", "test_limit", "optimizer", "momentum", "eps", "weight_decay", "schedule",
    "budget", "retry_failed", "activation", "state", "augment", "plane",
)  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out; options of images are refused, --batch-size are tokens of a side."""
    from ..data import parallel_text
    from ..experiments import translation, translation_estimate
    from ..experiments.runs.results_dir import COMPARISON
    from ..reporting.progress import reporter

    for name in _NOT_HERE:
        if getattr(arguments, name):
            raise ValueError(
                f"--{name.replace('_', '-')} must not be given with {NAME}, got "
                f"{shown(getattr(arguments, name))}; fp16engine translate train has more options"
            )
    text = parallel_text(_folder(arguments.data_dir))
    out = Path(arguments.out) / NAME
    options.use_threads(arguments)
    if arguments.limit is not None:
        text = text.limit(arguments.limit)
    settings = _settings(arguments)
    progress = reporter(False if arguments.json else None, "tokens/s")
    runs = translation_estimate.estimate(text, settings, out, progress)
    small = {"--epochs": plan.EPOCHS, "--limit": plan.IMAGES}
    reduced = sum(run.reduced(plan.EPOCHS, plan.IMAGES) for run in runs)
    if plan.ends(arguments, plan.Plan([run.row() for run in runs], small, reduced)):
        return 0
    summary = translation.run(
        text,
        settings,
        out,
        resume=(out / COMPARISON).exists(),
        progress=progress,
        checkpoint_every=arguments.checkpoint_every,
    )
    if arguments.json:
        print_json(summary)
    else:
        translate.print_summary(summary, out)
    return 1 if any(run["status"] == "failed" for run in summary["runs"]) else 0


def _folder(given: list[tuple[str, str]]) -> str | None:
    for name, _ in given:
        if name:
            raise ValueError(f"--data-dir must be one folder of parallel text for {NAME}, got {name}=")
    return given[-1][1] if given else None


def _settings(arguments: argparse.Namespace) -> Any:
    from ..experiments.translation import TABLE3

    if arguments.seeds not in (None, 1):
        raise ValueError(f"--seeds must be 1 for {NAME}, got {arguments.seeds}")
    if arguments.models is not None and len(arguments.models) != 1:
        raise ValueError(must_be("--models", "one Transformer", ",".join(arguments.models)))
    given = {
        "model": None if arguments.models is None else arguments.models[0],
        "precisions": None if arguments.precisions is None else tuple(arguments.precisions),
        "epochs": arguments.epochs,
        "tokens": arguments.batch_size,
        "lr": arguments.lr,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen.get("model") == "transformer-small":
        chosen = {"tokens": 1024, "lr": 1e-3, "warmup": 400, "vocabulary": 4000, "longest": 60, **chosen}
    return replace(TABLE3, device=arguments.device, **chosen)
