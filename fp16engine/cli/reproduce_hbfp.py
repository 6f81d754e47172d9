"""`fp16engine reproduce hbfp-density`, `hbfp-figure1`, `hbfp-figure2`: what takes few trainings, or none."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from . import options
from . import reproduce_plan as plan
from .output import print_json, print_table

DENSITY, FIGURE1, FIGURE2 = NAMES = ("hbfp-density", "hbfp-figure1", "hbfp-figure2")
_PLANE = f"{FIGURE2}-plane"
_NO_TRAINING = (
    "data",
    "data_dir",
    "download",
    "limit",
    "test_limit",
    "seeds",
    "epochs",
    "models",
    "precisions",
)
_NOT_HERE = ("seeds", "budget", "retry_failed", "activation")
_REFUSED = {DENSITY: (*_NO_TRAINING, "dry_run", "plane"), FIGURE1: (*_NOT_HERE, "plane"), FIGURE2: _NOT_HERE}


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    what = arguments.what[0]
    for name in _REFUSED[what]:
        if getattr(arguments, name):
            raise ValueError(
                f"--{name.replace('_', '-')} must not be given with {what}, got {getattr(arguments, name)}"
            )
    return _density(arguments) if what == DENSITY else _figure(arguments, what)


def _density(arguments: argparse.Namespace) -> int:
    from ..experiments.boosters import study

    table = study.density()
    if arguments.json:
        print_json({"name": DENSITY, "rows": list(table.rows), "note": table.note})
    else:
        print_table(table.title, tuple(table.heads()), [tuple(row) for row in table.cells()])
        print(table.note)
    return 0


def _figure(arguments: argparse.Namespace, what: str) -> int:
    from ..experiments import reproduce
    from ..experiments.boosters import estimate, figures, study
    from ..experiments.report.plots import save
    from ..experiments.runs.results_dir import write_json
    from ..experiments.runs.spec import RunSpec
    from ..reporting.history import SUMMARY
    from ..reporting.progress import reporter
    from ..train import TrainConfig

    options.use_threads(arguments)
    datasets = reproduce.DatasetCache(
        options.by_data_set(arguments.data, "--data"),
        options.by_data_set(arguments.data_dir, "--data-dir"),
        arguments.limit,
        arguments.test_limit,
        arguments.download,
        random_if_absent=arguments.dry_run,
    )
    dataset, fingerprint = datasets.get("cifar10")
    out = Path(arguments.out) / what
    asked = arguments.precisions
    precisions = asked or (["fp32"] if what == FIGURE1 else ["fp32", "hbfp6", "hbfp4", "booster"])
    model = (arguments.models or ["resnet20"])[0]
    epochs, batch_size = arguments.epochs or study.EPOCHS, arguments.batch_size or study.BATCH
    changes = {**study.TRAINING, **options.training_changes(arguments)}
    folders = {name: out / f"{model}-{name}" for name in precisions}
    specs = [
        RunSpec(model, dataset.name, fingerprint, len(dataset.train), len(dataset.test), name, epochs,
                batch_size, seed=0, training=changes)
        for name in precisions
    ]  # fmt: skip
    points = 0 if what == FIGURE1 else len(figures.STEPS) + (arguments.plane or 0) ** 2
    shown = reporter(False if arguments.json else None)
    runs = estimate.estimate(specs, dataset, list(folders.values()), arguments.device, points, shown)
    small = {"--epochs": plan.EPOCHS, "--limit": plan.IMAGES}
    reduced = sum(run.reduced(plan.EPOCHS, plan.IMAGES) for run in runs)
    if plan.ends(arguments, plan.Plan([run.row() for run in runs], small, reduced, datasets.not_here)):
        return 0
    trainers = {
        name: figures.trained(
            name,
            dataset,
            folder,
            model=model,
            epochs=epochs,
            batch_size=batch_size,
            training=TrainConfig.from_dict(changes),
            device=arguments.device,
            progress=shown,
        )
        for name, folder in folders.items()
    }
    summary: dict[str, Any] = {
        "name": what, "model": model, "data": dataset.name, "train_images": len(dataset.train),
        "test_images": len(dataset.test), "epochs": epochs,
    }  # fmt: skip
    if what == FIGURE1:
        found = figures.distances(next(iter(trainers.values())).model)
        figure = figures.draw_distances(found)
        summary["distances"] = [
            {"layer": d.path, "format": d.fmt.name, "block": d.fmt.block, "distance": d.distance}
            for d in found
        ]
        summary["ratios"] = {str(block): values for block, values in figures.ratios(found).items()}
    else:
        losses = figures.landscapes(trainers, dataset)
        figure = figures.draw_landscapes(losses)
        summary |= {"steps": figures.STEPS, "losses": losses}
        if arguments.plane:
            planes = figures.planes(trainers, dataset, arguments.plane)
            summary |= {"plane_steps": figures.plane_steps(arguments.plane), "planes": planes}
            save(figures.draw_planes(planes), out, _PLANE)
    save(figure, out, what)
    write_json(out / SUMMARY, summary)
    if arguments.json:
        print_json(summary)
    else:
        for name in (what, *([_PLANE] if arguments.plane else [])):
            print(out / f"{name}.svg")
    return 0
