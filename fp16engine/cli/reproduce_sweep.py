"""The runs of a `reproduce` command line, packed into the jobs of a sweep."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options

if TYPE_CHECKING:
    from ..experiments.cluster.sweep import Sweep
    from ..experiments.experiment import Experiment, Planned, Request

MOST_JOBS = 100  # on a cluster, without --jobs


def plans(
    arguments: argparse.Namespace, known: Mapping[str, Experiment], request: Request
) -> tuple[dict[str, list[Planned]], Any]:
    """Return the runs of every experiment, and how a job finds their data."""
    from ..experiments.cluster.sweep import DataSource
    from ..experiments.experiment import plan
    from ..experiments.reproduce import DatasetCache

    roots = options.by_data_set(arguments.data_dir, "--data-dir")
    source = DataSource(
        names=(),
        instead=options.by_data_set(arguments.data, "--data"),
        roots={name: os.path.abspath(os.path.expanduser(root)) for name, root in roots.items()},
        limit=arguments.limit,
        test_limit=arguments.test_limit,
    )
    cache = DatasetCache(
        source.instead,
        source.roots,
        source.limit,
        source.test_limit,
        arguments.download,
        random_if_absent=arguments.dry_run,
    )
    plans = {name: plan(known[name], request, cache.get) for name in arguments.what}
    names = tuple(dict.fromkeys(p.case.data for planned in plans.values() for p in planned))
    return plans, DataSource(names, source.instead, source.roots, source.limit, source.test_limit)


def packed(
    arguments: argparse.Namespace, plans: Mapping[str, Sequence[Planned]], data: Any, out: Path
) -> Sweep:
    """Return the sweep of what the store of `out` does not have."""
    from ..experiments.cluster.sweep import Sweep, pack
    from ..experiments.reproduce import RUNS, STORE
    from ..experiments.runs.runner import retry
    from ..experiments.runs.store import DONE, FAILED, Store

    specs = {p.spec.key: p.spec for planned in plans.values() for p in planned}
    with Store(out / STORE if (out / STORE).exists() else ":memory:") as store:
        if arguments.retry_failed and not arguments.dry_run:
            retry(store, out / RUNS, list(specs.values()))
        status = store.status(list(specs))
    open_ = [key for key in specs if status[key] not in (DONE, FAILED)]
    return Sweep(
        cluster=arguments.cluster,
        options=dict(arguments.slurm),
        data=data,
        plans=plans,
        jobs=pack(open_, arguments.jobs or _jobs(arguments)),
        device=arguments.device,
        threads=arguments.threads,
        checkpoint_every=arguments.checkpoint_every,
    )


def _jobs(arguments: argparse.Namespace) -> int:
    from ..doctor import cores

    if arguments.cluster == "slurm":
        return MOST_JOBS
    return max(1, cores() // arguments.threads) if arguments.threads else 1
