"""`fp16engine reproduce --cluster`: runs as jobs of a cluster; --collect, --status, --cancel later."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..validate import must_be
from . import options, reproduce_sweep
from .output import print_json
from .reproduce_output import print_status, print_summary

if TYPE_CHECKING:
    from ..experiments.cluster.collect import Collector
    from ..experiments.cluster.status import Status
    from ..experiments.experiment import Experiment, Planned, Request
    from ..experiments.runs.store import Store

_CLUSTERS = ("local", "slurm")
_LATER = ("collect", "status", "cancel")
_OWN = ("array", "error", "open-mode", "output", "signal", "wrap")  # options of sbatch that submitit sets


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("many jobs (docs/scale.md)")
    group.add_argument(
        "--cluster",
        type=options.one_of(_CLUSTERS),
        metavar="NAME",
        help="pack the runs into jobs: slurm (job arrays) or local (processes of this machine); stopped by "
        "Ctrl-C, the jobs continue",
    )
    group.add_argument(
        "--slurm",
        type=_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of sbatch for every job: time=2:00:00, gpus=1, partition=NAME, cpus-per-task=8, "
        "exclusive",
    )
    group.add_argument(
        "--jobs",
        type=options.whole(1),
        metavar="N",
        help=f"jobs that the runs are packed into (default: up to {reproduce_sweep.MOST_JOBS} on slurm; on "
        "this machine as many as --threads leaves cores for)",
    )
    group.add_argument("--no-wait", action="store_true", help="submit and end; --collect merges later")
    group.add_argument(
        "--collect",
        action="store_true",
        help="merge what the jobs of --out have finished and write the report; needs no WHAT and no data",
    )
    group.add_argument(
        "--status", action="store_true", help="say job by job what is done, running, failed and left"
    )
    group.add_argument("--cancel", action="store_true", help="end the jobs of --out; their runs are saved")


def asked(arguments: argparse.Namespace) -> bool:
    """Tell whether the command line is about a cluster, and check its options.

    Raises:
        ValueError: they do not go together.
    """
    later = [name for name in _LATER if getattr(arguments, name)]
    if len(later) > 1 or (later and arguments.cluster):
        given = [f"--{name}" for name in (*later, *(["cluster"] if arguments.cluster else []))]
        raise ValueError(f"one of {', '.join(given)} must be given, got all")
    if not later and arguments.what is None:
        raise ValueError("WHAT must be given, but with --collect, --status and --cancel")
    for name in ("slurm", "jobs", "no_wait"):
        if getattr(arguments, name) and not arguments.cluster:
            raise ValueError(f"--{name.replace('_', '-')} must be given with --cluster, got none")
    if arguments.slurm and arguments.cluster != "slurm":
        raise ValueError(f"--slurm must be given with --cluster slurm, got {arguments.cluster}")
    if arguments.cluster and arguments.budget is not None:
        raise ValueError(
            f"--budget must not be given with --cluster, got {arguments.budget:g} s; --slurm time= bounds a "
            "job"
        )
    return bool(later) or arguments.cluster is not None


def refuse_active(out: Path) -> None:
    """Raise ValueError if jobs work on the runs of a folder, which another command must not do as well."""
    if not (out / "cluster").exists():  # before anything is imported for it
        return
    from ..experiments.cluster.collect import opened

    with opened(out) as collector:
        at_work = collector is not None and collector.look().may_work
    if at_work:
        raise ValueError(
            f"out must be a folder that no job works in, got {out} with jobs; --status tells how they are, "
            "continue with --cluster, or end them with --cancel"
        )


def run(arguments: argparse.Namespace, known: Mapping[str, Experiment], request: Request | None) -> int:
    """Carry the command out; known: every experiment by its name; request: None for a later look."""
    from ..experiments.cluster.collect import opened
    from ..reporting.lock import hold
    from ..reporting.progress import reporter

    out = Path(arguments.out)
    shown = reporter(False if arguments.json else None)
    if request is not None and not arguments.dry_run:
        with hold(out / "cluster"):
            return _start(arguments, known, request, shown)
    if request is not None:
        return _dry_run(arguments, known, request)
    with opened(out, shown) as collector:
        if collector is None:
            raise ValueError(f"--out must be a folder with a sweep, got {out}")
        if arguments.status:
            return _say(arguments, collector, collector.look())
        if arguments.cancel:
            return _say(arguments, collector, collector.cancel())
        collector.merge()
        return _end(arguments, collector, known, collector.look())


def _start(
    arguments: argparse.Namespace, known: Mapping[str, Experiment], request: Request, shown: Any
) -> int:
    """Start a sweep, or join the one in work, and see it to its end."""
    from ..experiments.cluster.collect import opened
    from ..experiments.reproduce import STORE
    from ..experiments.runs.store import Store

    out = Path(arguments.out)
    plans, data = reproduce_sweep.plans(arguments, known, request)
    with opened(out, shown) as last:
        if last is not None:
            last.merge()
            if last.look().may_work:
                return _join(arguments, known, last, plans)
    sweep = reproduce_sweep.packed(arguments, plans, data, out)
    if not sweep.jobs:
        shown.note(f"all {len(sweep.specs)} runs are done")
        with Store(out / STORE) as store:
            return _report(arguments, known, plans, store)
    with opened(out, shown, sweep) as collector:
        assert collector is not None
        runs = sum(map(len, sweep.jobs))
        shown.note(f"{runs} of {len(sweep.specs)} runs to do, in {len(sweep.jobs)} jobs")
        collector.submit(range(len(sweep.jobs)))
        return _wait(arguments, collector, known)


def _join(
    arguments: argparse.Namespace,
    known: Mapping[str, Experiment],
    collector: Collector,
    plans: Mapping[str, Sequence[Planned]],
) -> int:
    status = collector.look()
    other = {p.spec.key for planned in plans.values() for p in planned} - set(collector.sweep.specs)
    if other or not status.known:
        why = "other runs" if other else "the same runs, whose scheduler does not answer"
        raise ValueError(
            f"--out must be a folder that no job works in, got {arguments.out} with jobs for {why}; "
            "--status tells how they are, --cancel ends them"
        )
    collector.shown.note(f"{collector.folder} is in work and continues with the options it was started with")
    return _wait(arguments, collector, known)


def _wait(arguments: argparse.Namespace, collector: Collector, known: Mapping[str, Experiment]) -> int:
    out = arguments.out
    if arguments.no_wait:
        return _say(arguments, collector, collector.look())
    try:
        status = collector.watch()
    except KeyboardInterrupt:
        collector.shown.note(
            f"The jobs continue. fp16engine reproduce --collect --out {out} merges what they finish, "
            "--cancel ends them."
        )
        raise
    return _end(arguments, collector, known, status)


def _dry_run(arguments: argparse.Namespace, known: Mapping[str, Experiment], request: Request) -> int:
    plans, data = reproduce_sweep.plans(arguments, known, request)
    sweep = reproduce_sweep.packed(arguments, plans, data, Path(arguments.out))
    counts = [len(keys) for keys in sweep.jobs]
    if arguments.json:
        print_json({"runs": len(sweep.specs), "jobs": counts})
    else:
        most = f" of at most {max(counts)} runs" if counts else ""
        print(f"{sum(counts)} of {len(sweep.specs)} runs to do, in {len(counts)} jobs{most}.")
    return 0


def _end(
    arguments: argparse.Namespace, collector: Collector, known: Mapping[str, Experiment], status: Status
) -> int:
    """Report what is merged; say how the jobs are if runs are left."""
    ended = _report(arguments, known, collector.sweep.plans, collector.store, status)
    if status.left and not arguments.json:
        print_status(collector, status)
    return ended or int(status.left > 0 and not status.may_work)  # runs that no job will do


def _report(
    arguments: argparse.Namespace,
    known: Mapping[str, Experiment],
    plans: Mapping[str, Sequence[Planned]],
    store: Store,
    status: Status | None = None,
) -> int:
    """Write and print the report; return the exit status."""
    from ..experiments.reproduce import report
    from ..experiments.runs.store import FAILED

    out = Path(arguments.out)
    summary = report([known[name] for name in plans], list(plans.values()), store, out)
    if arguments.json:
        print_json({**summary, "sweep": None if status is None else status.to_json()})
    else:
        print_summary(summary, out)
    return 1 if any(section["runs"][FAILED] for section in summary["experiments"]) else 0


def _say(arguments: argparse.Namespace, collector: Collector, status: Status) -> int:
    if arguments.json:
        print_json(status.to_json())
    else:
        print_status(collector, status)
    return 0


def _option(text: str) -> tuple[str, str | None]:
    """Parse KEY=VALUE or KEY, as sbatch takes them after two dashes."""
    name, sign, value = text.partition("=")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or (sign and not (value and value.isprintable())):
        raise options.wrong("KEY=VALUE or KEY, an option of sbatch", text)
    if name in _OWN:
        raise argparse.ArgumentTypeError(
            must_be("", "an option that jobs do not need themselves", name).strip()
        )
    if name == "time":
        from ..experiments.cluster.scheduler import slurm_minutes

        try:
            slurm_minutes(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix("--slurm time ")) from None
    return name, value if sign else None
