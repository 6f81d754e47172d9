"""`fp16engine compare`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..experiments.report.labels import NOTHING, epochs
from . import defaults, options
from .output import megabytes, plain, print_json, print_table, print_text, share, short
from .parser import add_command

if TYPE_CHECKING:
    from ..data import Dataset
    from ..torch.user_file import UserModel


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "compare",
        "the same training under several precisions, and a report",
        "Train the same network, from the same weights, on the same batches, once per precision; then\n"
        "compare accuracy, speed, memory and predictions. Writes summary.json, plots and report.html to\n"
        "--out.",
        "  fp16engine compare\n"
        "  fp16engine compare --seeds 5\n"
        "  fp16engine compare --precision fp16,fp16-strict,fp32 --epochs 5\n"
        "  fp16engine compare --data cifar10 --data-dir ~/cifar10 --model resnet20 --out runs/cifar\n"
        "  fp16engine compare --torch net.py:build --data mnist --data-dir ~/mnist\n"
        "  fp16engine compare --data image_folder --data-dir ~/photos --image-size 64\n\n" + defaults.table(),
    )
    options.add_data(parser, "digits")
    parser.add_argument(
        "--precision",
        type=options.precisions,
        default=["fp16", "fp32", "mp"],
        metavar="LIST",
        help=f"comma-separated: {options.PRECISIONS} (default: fp16,fp32,mp)",
    )
    options.add_training(parser)
    parser.add_argument(
        "--torch",
        metavar="FILE.py:FUNCTION",
        help="your own PyTorch network in place of --model: the file is run, and the function, which may "
        "take num_classes, image_size and channels, returns a torch.nn.Module (docs/pytorch.md)",
    )
    parser.add_argument(
        "--seeds",
        type=options.whole(1),
        default=1,
        metavar="N",
        help="train with N seeds, from --seed on; a verdict of better or worse needs several (default: 1)",
    )
    options.add_device(parser)
    options.add_numerics(parser)
    options.add_output(parser, folder=True)
    options.add_log(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    build = _user_model(arguments)
    options.fill(arguments)
    dataset = options.load_data(arguments)
    model = arguments.model if build is None else build.name
    out = options.results_folder(arguments, f"compare-{arguments.data}-{model.replace(':', '-')}")
    options.use_threads(arguments)
    from ..train import Interrupted

    try:
        summary = _compared(arguments, dataset, out, model, build)
    except KeyboardInterrupt:  # between two runs; a run that is stopped says as much itself
        raise Interrupted(f"stopped; what is finished is kept in {out}, continue with --resume") from None
    if arguments.json:
        print_json(summary)
    else:
        _print(summary, out)
    return 1 if any(run["status"] == "failed" for run in summary["runs"]) else 0


def _user_model(arguments: argparse.Namespace) -> UserModel | None:
    """Return what --torch names; importing PyTorch is its user's wish alone."""
    if arguments.torch is None:
        return None
    if arguments.model is not None:
        raise ValueError(f"--model must not be given with --torch, got {arguments.model}")
    from ..torch.user_file import user_model

    return user_model(arguments.torch)


def _compared(
    arguments: argparse.Namespace, dataset: Dataset, out: Path, model: str, build: UserModel | None
) -> dict[str, Any]:
    from ..experiments import compare

    return compare.run(
        model,
        dataset,
        arguments.precision,
        arguments.epochs,
        arguments.batch_size,
        seeds=arguments.seeds,
        out=out,
        resume=arguments.resume,
        checkpoint_every=arguments.checkpoint_every,
        log_every=arguments.log_every,
        monitor_every=arguments.monitor_every,
        log=arguments.log,
        on_nonfinite=arguments.on_nonfinite,
        max_bad_steps=arguments.max_bad_steps,
        strict=arguments.strict,
        seed=arguments.seed,
        build=build,
        device=arguments.device,
        **options.train_config(arguments).arguments(),
    )


def _print(summary: dict[str, Any], out: Path) -> None:
    settings, seeds = summary["settings"], summary["seeds"]
    several = len(seeds) > 1
    rows = [
        (
            run["precision"],
            *([run["seed"]] if several else []),
            share(run["test_accuracy"]),
            share(run["train_accuracy"]),
            f"{plain(run['train_seconds'], 1)} s",
            plain(run["images_per_second"]),
            megabytes(run["peak_memory_bytes"]),
            run["nonfinite_steps"],
            run["skipped_steps"],
        )
        for run in summary["runs"]
    ]
    title = f"{summary['model']} on {summary['data']}, {epochs(settings['epochs'])}, "
    title += f"seeds {seeds[0]} to {seeds[-1]}" if several else f"seed {seeds[0]}"
    figures = ("test", "training", "time", "images/s", "peak memory", "not finite", "skipped")
    head = ("precision", *(["seed"] if several else []), *figures)
    print_table(title, head, rows)
    for verdict in summary["verdicts"]:
        print()
        print_text(verdict["headline"])
        for sentence in verdict["sentences"]:
            print_text(sentence, "  ")
    tolerance = summary["tolerance"]
    if tolerance:
        print()
        print_text(
            f"δ {short(tolerance['delta_mean'])} mean, {short(tolerance['delta_max'])} largest; "
            f"Γ {short(tolerance['gamma_mean'])} mean. {share(tolerance['guaranteed_share'])} of the "
            f"predictions must agree, {share(tolerance['agreement'])} do "
            f"({tolerance['other']} and {tolerance['reference']})."
        )
    else:
        print()
        print_text(f"δ {NOTHING}, Γ {NOTHING}: {summary['tolerance_reason']}.")
    for run in summary["runs"]:
        for finding in run.get("findings", []):
            print()
            print_text(f"{run['precision']}: {finding['text']}")
    print(f"\nResults: {out}")
    print(f"Report:  {out / summary['report']}" if summary["report"] else summary["report_missing"])
