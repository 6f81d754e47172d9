"""`fp16engine evaluate`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..experiments.report.labels import epochs
from . import options, run_data
from .output import print_json, print_table, share
from .parser import add_command

if TYPE_CHECKING:
    from ..prediction import Evaluation
    from ..train import Checkpoint


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "evaluate",
        "a checkpoint on a test set: accuracy, per class too, and what is taken for what",
        "Measure accuracy and loss of a checkpoint on test images, in the precision it was trained in, for\n"
        "each class too, and count which class is taken for which. The images are those of the run's own\n"
        "data set, where it was and as it was, unless the options name others with the same classes.\n"
        "Pixels are normalised as in training. The exit status is 1 if no output of the network is finite.",
        "  fp16engine evaluate runs/train-digits-resnet20-fp16\n"
        "  fp16engine evaluate runs/cifar/fp16 --data-dir ~/cifar10 --json",
    )
    parser.add_argument("checkpoint", metavar="RUN", help="a run's folder, or its checkpoint.json")
    options.add_data(parser, None)
    parser.add_argument(
        "--batch-size",
        type=options.whole(1),
        default=256,
        metavar="N",
        help="images at a time (default: 256)",
    )
    options.add_device(parser)
    options.add_output(parser, folder=False)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    from ..errors import NonFiniteError
    from ..prediction import Predictor
    from ..prediction.predictor import checkpoint_of
    from ..reporting.history import json_number
    from ..reporting.progress import loss_text
    from ..train.outcome import failure

    checkpoint = checkpoint_of(arguments.checkpoint)
    dataset, source = run_data.of_run(arguments, checkpoint)
    options.use_threads(arguments)
    predictor = Predictor(checkpoint, source, arguments.device)
    found = predictor.evaluate(dataset, arguments.batch_size)
    views = _views(checkpoint)
    over_views = None if views is None else predictor.evaluate_views(dataset, views, arguments.batch_size)
    result = {
        "model": (checkpoint.model_config or {}).get("name"),
        "precision": checkpoint.precision.name,
        "data": dataset.name,
        "device": arguments.device,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "test_images": len(dataset.test),
        "test_accuracy": json_number(found.accuracy),
        "test_loss": json_number(found.loss),
        "classes": [
            {"class": name, "test_images": count, "accuracy": accuracy}
            for name, count, accuracy in found.per_class()
        ],
        "confusion": found.confusion.tolist(),
    }
    if views is not None:
        result["views_accuracy"] = json_number(over_views)
    if arguments.json:
        print_json(result)
    else:
        loss_name = "test cross-entropy" if "loss" in checkpoint.settings else "test loss"
        rows = [
            ("test accuracy", share(result["test_accuracy"])),
            *([] if views is None else [(f"test accuracy, {views}", share(result["views_accuracy"]))]),
            (loss_name, loss_text(result["test_loss"])),
            ("test images", f"{len(dataset.test):,}"),
            ("trained for", f"{epochs(checkpoint.epoch)}, {checkpoint.step:,} steps"),
        ]
        print_table(f"{result['model']} on {dataset.name}, {result['precision']}", ("", ""), rows)
        _print_classes(found)
    if (failed := failure(0, 0, found.accuracy)) is not None:
        raise NonFiniteError(f"the checkpoint has no accuracy: {failed}")
    return 0


def _views(checkpoint: Checkpoint) -> str | None:
    """Return the test-time views that the run was tested over, None where it had none."""
    from ..errors import CheckpointError
    from ..train import Refinements

    try:
        refinements = Refinements.get(checkpoint.settings.get("refinements"))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path} is damaged: {error}") from error
    return None if refinements is None or refinements.views == "none" else refinements.views


def _print_classes(found: Evaluation) -> None:
    from ..numerics.confusion import WIDEST, lowest, most_frequent
    from ..validate import printable

    names = [printable(name) for name in found.classes]
    each = found.per_class()
    shown = lowest([accuracy for _, _, accuracy in each])
    rows = [(names[i], f"{each[i][1]:,}", share(each[i][2])) for i in shown]
    all_shown = len(shown) == len(names)
    title = "Each class" if all_shown else f"The {len(shown)} classes of the lowest accuracy, of {len(names)}"
    print()
    print_table(title, ("class", "test images", "accuracy"), rows)
    print()
    if len(names) <= WIDEST:
        counts = zip(names, found.confusion.tolist(), strict=True)
        cells = [(name, *(f"{count:,}" if count else "." for count in row)) for name, row in counts]
        print_table("Test images by class (rows) and predicted class (columns)", ("", *names), cells)
        return
    wrong = [(one, other, f"{count:,}") for one, other, count in most_frequent(found.confusion, names)]
    print_table("What is taken for what most often", ("class", "predicted", "test images"), wrong, left=2)
