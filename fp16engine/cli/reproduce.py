"""`fp16engine reproduce`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options, reproduce_cluster, reproduce_hbfp, reproduce_table3
from . import reproduce_plan as plan
from .output import print_json
from .parser import add_command
from .reproduce_output import print_summary

if TYPE_CHECKING:
    from ..experiments.experiment import Request
    from ..experiments.runs.runner import Outcome

# An inverse square root falls from a warm-up on, which the study does not have.
_SCHEDULES = tuple(name for name in options.SCHEDULES if name != "inverse-sqrt")
_ALL = "all"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "reproduce",
        "the tables and figures of the study, ours next to the paper's",
        "Run what a table or figure of the FP16 study needs and is not done yet, and write a report with\n"
        "ours and the paper's side by side. Stop it at any time, even by a kill: the same command continues\n"
        "where it was. Without options it is the study at full size, which is work for a GPU; --epochs,\n"
        "--limit, --seeds and --models make it smaller, and everything the report shows says by how much.",
        "  fp16engine reproduce figure2,figure3 --data-dir ~/mnist --epochs 10\n"
        "  fp16engine reproduce table2 --epochs 1 --limit 2000 --seeds 1 --dry-run\n"
        "  fp16engine reproduce table2 --data-dir ~/cifar10 --models resnet32,vit8 --seeds 3 --budget 2h\n"
        "  fp16engine reproduce all --data-dir mnist=~/mnist --data-dir cifar10=~/cifar10\n"
        "  fp16engine reproduce table2 --data-dir ~/cifar10 --device cuda --cluster slurm --slurm gpus=1",
    )
    parser.add_argument(
        "what",
        metavar="WHAT",
        nargs="?",
        type=_what,
        help=f"{', '.join(_experiments())}; or several, with commas",
    )
    _add_data(parser)
    _add_size(parser)
    _add_training(parser)
    options.add_device(parser)
    group = parser.add_argument_group("work and results")
    group.add_argument(
        "--budget", type=_duration, metavar="TIME", help="stop after 90s, 30m, 2h, 1d with everything saved"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="say how many runs there are, and how long; needs no data"
    )
    group.add_argument("--yes", action="store_true", help="start also what takes longer than a day")
    group.add_argument("--retry-failed", action="store_true", help="do runs that failed again")
    group.add_argument(
        "--checkpoint-every", type=options.whole(1), metavar="N", help="save every N steps too"
    )
    group.add_argument(
        "--out",
        type=options.folder_name,
        default="runs/reproduce",
        metavar="DIR",
        help="store and report (default: runs/reproduce)",
    )
    group.add_argument(
        "--json", action="store_true", help="print one JSON document on standard output, nothing else"
    )
    reproduce_cluster.add(parser)
    parser.set_defaults(run=run)


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        type=_named,
        action="append",
        default=[],
        metavar="[FOR=]NAME",
        help="use this data set instead of the study's, or of FOR only: cifar10=image_folder",
    )
    group.add_argument(
        "--data-dir",
        type=_named,
        action="append",
        default=[],
        metavar="[FOR=]DIR",
        help="where the files of the data sets are, or those of FOR: mnist=DIR",
    )
    group.add_argument("--download", action="store_true", help="fetch missing files (checksummed)")
    group.add_argument(
        "--limit", type=options.whole(1), metavar="N", help="the first N training and N test images only"
    )
    group.add_argument(
        "--test-limit", type=options.whole(1), metavar="N", help="the first N test images (default: --limit)"
    )


def _add_size(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how much of it (default: all that the study ran)")
    group.add_argument("--seeds", type=options.whole(1), metavar="N", help="seeds 0 to N-1")
    group.add_argument("--epochs", type=options.whole(1), metavar="N", help="passes over the images")
    group.add_argument("--models", type=_list, metavar="LIST", help="comma-separated names of networks")
    group.add_argument("--precisions", type=options.precisions, metavar="LIST", help="comma-separated")
    group.add_argument(
        "--plane", type=options.whole(3), metavar="N", help="hbfp-figure2 over a plane of N x N points too"
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("otherwise than the study (its open questions)")
    group.add_argument("--batch-size", type=options.whole(1), metavar="N", help="images per step")
    group.add_argument(
        "--activation",
        type=options.one_of(("relu", "relu6", "gelu", "tanh")),
        metavar="NAME",
        help="relu, relu6, gelu, tanh: instead of every network's own",
    )
    group.add_argument("--optimizer", type=options.one_of(options.OPTIMIZERS), metavar="NAME")
    group.add_argument("--lr", type=options.number(True), metavar="X", help="learning rate")
    group.add_argument("--momentum", type=options.number(False), metavar="X", help="of sgd")
    group.add_argument("--eps", type=options.number(True), metavar="X", help="of adam, adamw, rmsprop")
    group.add_argument("--weight-decay", type=options.number(False), metavar="X")
    group.add_argument("--schedule", type=options.one_of(_SCHEDULES), metavar="NAME")
    group.add_argument(
        "--state",
        type=options.one_of(options.STATES),
        metavar="NAME",
        help="FP16 state of adam, adamw, rmsprop: native or plain",
    )
    group.add_argument(
        "--augment",
        type=options.one_of(options.AUGMENTATIONS),
        metavar="NAME",
        help=", ".join(options.AUGMENTATIONS),
    )


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    on_cluster = reproduce_cluster.asked(arguments)
    for command in (reproduce_table3, reproduce_hbfp) if arguments.what else ():
        if arguments.what[0] in command.NAMES:
            if on_cluster:
                raise ValueError(
                    f"--cluster must not be given with {arguments.what[0]}, got {arguments.cluster}; it "
                    "is no plan of many runs"
                )
            return command.run(arguments)
    if arguments.plane and arguments.what:
        raise ValueError(
            f"--plane must not be given with {', '.join(arguments.what)}, got {arguments.plane}; "
            "hbfp-figure2 has it"
        )
    from ..experiments import reproduce
    from ..experiments.boosters import study
    from ..experiments.runs.store import FAILED
    from ..experiments.standalone_fp16.study import EXPERIMENTS

    known = {**EXPERIMENTS, **study.EXPERIMENTS}
    if arguments.what == (_ALL,):
        arguments.what = tuple(EXPERIMENTS)
    if on_cluster:
        return reproduce_cluster.run(arguments, known, _request(arguments) if arguments.cluster else None)
    reproduce_cluster.refuse_active(Path(arguments.out))
    chosen = [known[name] for name in arguments.what]
    options.use_threads(arguments)
    datasets = reproduce.DatasetCache(
        options.by_data_set(arguments.data, "--data"),
        options.by_data_set(arguments.data_dir, "--data-dir"),
        arguments.limit,
        arguments.test_limit,
        arguments.download,
        random_if_absent=arguments.dry_run,
    )
    with reproduce.prepare(
        chosen,
        _request(arguments),
        datasets,
        Path(arguments.out),
        budget=arguments.budget,
        checkpoint_every=arguments.checkpoint_every,
        progress=False if arguments.json else None,
        keep=not arguments.dry_run,
    ) as session:
        if arguments.retry_failed and not arguments.dry_run:
            session.worker.retry(session.specs)
        rows = session.estimate()
        small = {"--epochs": plan.EPOCHS, "--limit": plan.IMAGES, "--seeds": 1}
        reduced = session.reduced(plan.EPOCHS, plan.IMAGES)
        if plan.ends(arguments, plan.Plan(rows, small, reduced, datasets.not_here, without_budget=False)):
            return 0
        outcome = session.run(rows)
        summary = session.report()
    if arguments.json:
        print_json(summary)
    else:
        print_summary(summary, Path(arguments.out))
        _print_rest(outcome)
    return 1 if any(section["runs"][FAILED] for section in summary["experiments"]) else 0


def _request(arguments: argparse.Namespace) -> Request:
    """Return what the options change; the optimizer's own arguments go with it."""
    from ..experiments.experiment import Request

    for name in arguments.models or ():
        options.check_model(name, "--models")
    return Request(
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        models=arguments.models,
        precisions=None if arguments.precisions is None else tuple(arguments.precisions),
        device=arguments.device,
        activation=arguments.activation,
        training=options.training_changes(arguments),
    )


def _experiments() -> tuple[str, ...]:
    from ..experiments.boosters import study
    from ..experiments.standalone_fp16.study import EXPERIMENTS

    return (*EXPERIMENTS, *study.EXPERIMENTS, *reproduce_hbfp.NAMES, *reproduce_table3.NAMES, _ALL)


def _what(text: str) -> tuple[str, ...]:
    """Parse the names of experiments; "all" and what is no plan of runs stand alone."""
    names = _list(text)
    for name in names:
        options.one_of(_experiments())(name)
        if len(names) > 1 and name in (_ALL, *reproduce_table3.NAMES, *reproduce_hbfp.NAMES):
            raise options.wrong(f"{name} alone", text)
    return names


def _named(text: str) -> tuple[str, str]:
    """Parse "FOR=VALUE" or "VALUE"."""
    name, sign, value = text.partition("=")
    pair = (name, value) if sign and name in options.DATA else ("", text)
    if not pair[1]:
        raise options.wrong("NAME or FOR=NAME", text)
    return pair


def _list(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise options.wrong("different names separated by commas", text)
    return names


def _duration(text: str) -> float:
    """Parse "90s", "30m", "2h", "1d"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found or not float(found[1]):
        raise options.wrong("a time such as 90s, 30m, 2h or 1d", text)
    return float(found[1]) * _UNITS[found[2]]


def _print_rest(outcome: Outcome) -> None:
    if outcome.left:
        why = "the time given is over" if outcome.out_of_time else "not done"
        print(f"{outcome.left} runs are left ({why}); the same command continues with them.")
    if outcome.elsewhere:
        print(f"{outcome.elsewhere} runs are being done by another process.")
