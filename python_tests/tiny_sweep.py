"""A sweep of tiny runs on disk, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fp16engine.experiments import reproduce
from fp16engine.experiments.cluster import sweep as sweeps
from fp16engine.experiments.experiment import Arm, Case, Experiment, Planned, Request, plain_arms, plan
from fp16engine.experiments.runs.store import Store

LIMIT = 48
WILD = Arm("wild", "fp16", {"lr": 1e30})  # its runs fail
EXPERIMENT = Experiment(
    name="tiny",
    title="Tiny",
    claim="Nothing.",
    cases=(Case("dnn", "digits"),),
    arms=plain_arms("fp16", "fp32"),
    seeds=2,
    epochs=2,
    batch_size=16,
    report=lambda results: [],
    training={"optimizer": "sgd", "lr": 0.05},
)


def cache() -> reproduce.DatasetCache:
    return reproduce.DatasetCache(limit=LIMIT)


def plans(experiment: Experiment = EXPERIMENT) -> list[Planned]:
    return plan(experiment, Request(device="reference"), cache().get)


def made(
    out: Path, jobs: int = 2, experiment: Experiment = EXPERIMENT, **changes: Any
) -> tuple[sweeps.Sweep, Path]:
    """Write a sweep below `out`; return it and its folder."""
    planned = plans(experiment)
    keys = [p.spec.key for p in planned]
    sweep = sweeps.Sweep(
        **{
            "cluster": "local",
            "options": {},
            "data": sweeps.DataSource(("digits",), limit=LIMIT),
            "plans": {experiment.name: planned},
            "jobs": sweeps.pack(keys, jobs),
            "device": "reference",
            "checkpoint_every": 1,
            **changes,
        }
    )
    folder = sweeps.following(out)
    sweep.write(folder)
    for number in range(len(sweep.jobs)):
        sweeps.job_folder(folder, number).mkdir()
    return sweep, folder


def whole(out: Path, experiment: Experiment = EXPERIMENT) -> str:
    """Do the same runs without jobs; return the store's export."""
    request = Request(device="reference")
    with reproduce.prepare([experiment], request, cache(), out, progress=False) as session:
        session.worker.work(session.specs)
    return export(out)


def export(out: Path) -> str:
    with Store(out / reproduce.STORE) as store:
        return json.dumps(store.export(), sort_keys=True)


def labels(sweep: sweeps.Sweep, keys: Sequence[str]) -> list[str]:
    return [sweep.specs[key].label for key in keys]
