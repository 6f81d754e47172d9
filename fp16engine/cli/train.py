"""`fp16engine train`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..experiments.report.labels import epochs
from ..loss_scale import LossScale
from ..precision import Precision
from . import defaults, options, ranks
from .output import megabytes, plain, print_json, print_table, print_text, share
from .parser import add_command

if TYPE_CHECKING:
    from ..data import Dataset

WATCH_EVERY = 10
LOSS_SCALES = ("policy", "auto")


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "train",
        "one training run",
        "Train a network under one precision. Writes metrics.jsonl, summary.json and a checkpoint to --out;\n"
        "Ctrl-C saves and stops, --resume continues as if nothing had happened.",
        "  fp16engine train\n"
        "  fp16engine train --data mnist --data-dir ~/mnist --precision fp16 --epochs 10 --out runs/mnist\n"
        "  fp16engine train --data image_folder --data-dir ~/photos --image-size 64 --model resnet20\n"
        "  fp16engine train --recipe airbench94 --data-dir ~/cifar10\n\n" + defaults.table(),
    )
    options.add_data(parser, "digits")
    parser.set_defaults(data=None)  # a recipe has another default
    parser.add_argument(
        "--recipe",
        type=options.one_of(options.RECIPES),
        metavar="NAME",
        help=f"{' or '.join(options.RECIPES)}: network, optimizer, schedule, augmentation and all their "
        "numbers at once, for 32x32 colour images (cifar10 unless --data says otherwise); other options "
        "change single ones",
    )
    parser.add_argument(
        "--precision",
        type=options.precision,
        default="fp16",
        metavar="NAME",
        help=f"{options.PRECISIONS} (default: fp16)",
    )
    options.add_training(parser)
    parser.add_argument(
        "--loss-scale",
        type=options.one_of(LOSS_SCALES),
        metavar="WHAT",
        help="policy: as the precision says (default without a recipe); auto: chosen from the histogram of "
        "the gradients",
    )
    parser.add_argument(
        "--weights",
        metavar="PATH",
        help="start from the weights of a run (its folder) or of a safetensors file, of the same network; "
        "its last layer may have other classes",
    )
    options.add_device(parser)
    options.add_ranks(parser)
    options.add_numerics(parser)
    options.add_output(parser, folder=True)
    parser.add_argument(
        "--watch",
        action="store_true",
        help=f"show the layers' number lines live on the terminal (default --monitor-every {WATCH_EVERY})",
    )
    options.add_log(parser)
    parser.add_argument("--tensorboard", action="store_true", help="the same as --log tensorboard")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    from ..reporting.lock import hold

    with ranks.joined(arguments):
        options.fill(arguments)
        policy = _policy(arguments)
        dataset = options.load_data(arguments)
        made = arguments.recipe or arguments.model
        stem = f"train-{arguments.data}-{made}-{arguments.precision}"
        out = Path(ranks.said_by_the_first(lambda: str(options.results_folder(arguments, stem))))
        options.use_threads(arguments)
        with hold(out if ranks.first() else None):
            return _train(arguments, policy, dataset, out)


def _train(arguments: argparse.Namespace, policy: Precision, dataset: Dataset, out: Path) -> int:
    from ..doctor import machine
    from ..errors import NonFiniteError
    from ..experiments.report import number_line
    from ..experiments.runs.results_dir import refuse_results, write_json
    from ..numerics import strict
    from ..numerics.audit import audit_batch, audit_step
    from ..reporting.history import SUMMARY
    from ..train import Checkpoint, Trainer

    def trainer(**shared: Any) -> Trainer:
        return Trainer.of(
            options.make_model(arguments, dataset),
            policy,
            options.train_config(arguments),
            arguments.device,
            arguments.seed,
            on_nonfinite=arguments.on_nonfinite,
            max_bad_steps=arguments.max_bad_steps,
            **shared,
        )

    shared = ranks.arguments_of_trainer(arguments)
    runner = trainer(**shared)
    if arguments.resume:
        Checkpoint.load(out)  # says what is wrong with it before anything else is done
    elif ranks.first():
        refuse_results(out)
    # a twin is audited, so that the run itself is exactly what Trainer.fit gives
    batch = audit_batch(dataset, runner.precision)
    if arguments.strict:
        strict.check(trainer(**shared), *batch)
    runner.state.audit = audit_step(trainer(**shared), *batch).to_dict(runner.precision)
    history = runner.fit(
        dataset,
        arguments.epochs,
        arguments.batch_size,
        out=out,
        resume=arguments.resume,
        checkpoint_every=arguments.checkpoint_every,
        log_every=arguments.log_every,
        progress=_live() if arguments.watch and ranks.first() else None,
        log=arguments.log,
        tensorboard=arguments.tensorboard,
        monitor_every=arguments.monitor_every or (WATCH_EVERY if arguments.watch else None),
    )
    if not ranks.first():
        return 0 if history.failure is None else 1
    summary = {**history.summary(), "audit": runner.state.audit, "machine": machine(arguments.device)}
    if runner.monitor is not None:
        summary["findings"] = [finding.to_dict() for finding in runner.monitor.findings]
        summary["report"] = number_line.write(out, summary)
    write_json(out / SUMMARY, summary)
    if arguments.json:
        print_json(summary)
    else:
        _print(summary, out)
    if history.failure is not None:
        raise NonFiniteError(f"the run failed: {history.failure}")
    return 0


def _policy(arguments: argparse.Namespace) -> Precision:
    policy = Precision.get(arguments.precision)
    if arguments.loss_scale in (None, "policy"):
        return policy
    if policy.storage != "float16":
        raise ValueError(
            f"--loss-scale must be policy with {policy.name}, which stores no FP16 gradients, got auto"
        )
    return policy.changed(loss_scale=LossScale.from_histogram())


def _live() -> Any:
    """The live view where standard error is a terminal; lines otherwise."""
    from ..reporting.live import LiveView

    return LiveView() if sys.stderr.isatty() else None


def _tensors(kinds: int, forbidden: int) -> str:
    """Return how many kinds of 32-bit tensors there were, and how many against the precision, in words.

    >>> _tensors(0, 0), _tensors(4, 0), _tensors(4, 1)
    ('none', '4, which the precision allows', '4, 1 of them against the precision')
    """
    if not kinds:
        return "none"
    if not forbidden:
        return f"{kinds}, which the precision allows"
    return f"{kinds}, {forbidden} of them against the precision"


def _print(summary: dict[str, Any], out: Path) -> None:
    audit = summary["audit"]
    views = summary["refinements"]["views"] if "views_accuracy" in summary else None
    rows = [
        ("test accuracy", share(summary["test_accuracy"])),
        *([] if views is None else [(f"test accuracy, {views}", share(summary["views_accuracy"]))]),
        ("training accuracy", share(summary["train_accuracy"])),
        ("training time", f"{plain(summary['train_seconds'], 1)} s"),
        ("images per second", plain(summary["images_per_second"])),
        ("peak memory", megabytes(summary["peak_memory_bytes"])),
        ("steps not finite / skipped", f"{summary['nonfinite_steps']} / {summary['skipped_steps']}"),
        ("kinds of 32-bit tensors (audit)", _tensors(audit["float32_tensors"], audit["not_allowed"])),
        ("32-bit accumulators (audit)", f"{audit['float32_accumulators']} operations"),
    ]
    title = f"{summary['model']} on {summary['data']}, {summary['precision']}, {epochs(summary['epochs'])}"
    print_table(title, ("", ""), rows)
    for finding in summary.get("findings", []):
        print()
        print_text(finding["text"])
    print(f"\nResults: {out}")
    if summary.get("report"):
        print(f"Report:  {out / summary['report']}")
