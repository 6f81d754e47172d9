"""`fp16engine evaluate`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from . import options
from .output import epochs, print_json, print_table, share
from .parser import add_command

if TYPE_CHECKING:
    from ..data import Dataset
    from ..train import Checkpoint


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "evaluate",
        "a checkpoint on a test set",
        "Measure accuracy and loss of a checkpoint on the test images of a data set, in the precision it\n"
        "was trained in. Pixels are normalised as in training: with the mean and std of the data set's\n"
        "training images, of those the run used if it was trained on the same data. The exit status is 1 if\n"
        "no output of the network is finite.",
        "  fp16engine evaluate runs/train-digits-resnet20-fp16\n"
        "  fp16engine evaluate runs/cifar/fp16 --data-dir ~/cifar10 --json",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a run's folder, or its checkpoint.json")
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
    from ..reporting.history import json_number
    from ..reporting.progress import loss_text
    from ..train import Checkpoint, Trainer
    from ..train.outcome import failure

    checkpoint = Checkpoint.load(arguments.checkpoint)
    dataset = _dataset(arguments, checkpoint)
    options.use_threads(arguments)
    trainer = Trainer(
        checkpoint.create_model(arguments.device), precision=checkpoint.precision, device=arguments.device
    )
    accuracy, loss = trainer.evaluate(dataset, arguments.batch_size)
    views = _views(checkpoint)
    over_views = None if views is None else trainer.evaluate_views(dataset, views, arguments.batch_size)
    result = {
        "model": (checkpoint.model_config or {}).get("name"),
        "precision": checkpoint.precision.name,
        "data": dataset.name,
        "device": arguments.device,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "test_images": len(dataset.test),
        "test_accuracy": json_number(accuracy),
        "test_loss": json_number(loss),
    }
    if views is not None:
        result["views_accuracy"] = json_number(over_views)
    if arguments.json:
        print_json(result)
    else:
        rows = [
            ("test accuracy", share(result["test_accuracy"])),
            *([] if views is None else [(f"test accuracy, {views}", share(result["views_accuracy"]))]),
            ("test loss", loss_text(result["test_loss"])),
            ("test images", f"{len(dataset.test):,}"),
            ("trained for", f"{epochs(checkpoint.epoch)}, {checkpoint.step:,} steps"),
        ]
        print_table(f"{result['model']} on {dataset.name}, {result['precision']}", ("", ""), rows)
    if (failed := failure(0, 0, accuracy)) is not None:
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


def _dataset(arguments: argparse.Namespace, checkpoint: Checkpoint) -> Dataset:
    """Load the test set, with the training images whose mean and std normalised the run's."""
    from ..data import Dataset, Split

    name, images = _trained_on(checkpoint)
    limit, arguments.limit = arguments.limit, None
    if arguments.data is None:
        if name not in options.DATA:
            raise ValueError(f"--data must be given for a checkpoint trained on {name!r}, got none")
        arguments.data = name
    whole = options.load_data(arguments)
    used = images if whole.name == name else len(whole.train)
    train = Split(whole.train.images[:used], whole.train.labels[:used])
    test = Split(whole.test.images[:limit], whole.test.labels[:limit])
    return Dataset(whole.name, train, test, whole.classes)


def _trained_on(checkpoint: Checkpoint) -> tuple[str, int]:
    """Return the name of the data set that a checkpoint was trained on, and how many images of it."""
    from ..errors import CheckpointError
    from ..validate import integer, must_be

    data = checkpoint.settings.get("data")
    try:
        if not isinstance(data, dict) or not isinstance(data.get("name"), str):
            raise ValueError(must_be("run: data", "a table with a name", data))
        return data["name"], integer("run: data: train", data.get("train"), 1)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path} is damaged: {error}") from error
