"""The data set of a run, found again from its checkpoint, or the one that the options name."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from . import options

if TYPE_CHECKING:
    from ..data import Dataset
    from ..train import Checkpoint
    from ..train.source import ImageSource


def of_run(
    arguments: argparse.Namespace, checkpoint: Checkpoint, unseen: bool = True
) -> tuple[Dataset, ImageSource]:
    """Return the data set, normalised as in training, and what the checkpoint says of its images.

    `--limit` cuts the test part. Without `--data` it is the run's own, where it was unless `--data-dir` says
    another place; then it must be as it was. Of data that the options name, a warning says where a drawn
    test part may hold images that were trained on. Where they need not be `unseen`, any images will do.

    Raises:
        DataError: the run's own data set has changed.
    """
    from ..prediction.predictor import source_of

    completed = argparse.Namespace(**vars(arguments) | {"limit": None})
    _fill(completed, checkpoint)
    whole = options.load_data(completed)
    if unseen:
        _check_same(checkpoint, whole, bool(named(arguments)))
    source = source_of(checkpoint, whole)
    test = whole.test.first(arguments.limit)
    return replace(whole, test=test, moments=(source.mean, source.std)), source


def named(arguments: argparse.Namespace) -> list[str]:
    """Return the options given that name data."""
    names = ("data", "data_dir", "image_size", "test_share")
    return ["--" + name.replace("_", "-") for name in names if getattr(arguments, name) is not None]


def _check_same(checkpoint: Checkpoint, whole: Dataset, is_named: bool) -> None:
    """Refuse a run's data set that has changed; warn of one that was named and whose test part is drawn."""
    from ..data import stratified
    from ..errors import DataError
    from ..prediction.predictor import is_of

    if (is_named and not stratified.is_noted(whole.notes)) or is_of(checkpoint, whole):
        return
    if not is_named:
        raise DataError(
            f"{whole.name} must hold the images and labels that the run was trained on, got others: it has "
            "changed since, and its test part may hold images that were trained on; name the data by "
            "--data-dir to use them all the same"
        )
    warnings.warn(
        f"{whole.name} holds other images or labels than the run's own data; its test part is drawn, so that "
        "it may hold images that were trained on",
        stacklevel=2,
    )


def _fill(arguments: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """Put the run's data set where the options say nothing."""
    from ..prediction.predictor import trained_on

    origin = None if checkpoint.images is None else checkpoint.images.origin
    same = arguments.data is None
    if same:
        name = trained_on(checkpoint)[0] if origin is None else origin.kind
        if name not in options.DATA:
            raise ValueError(f"--data must be given for a checkpoint trained on {name!r}, got none")
        arguments.data = name
    if origin is None or origin.kind != arguments.data:
        return
    if arguments.image_size is None:
        arguments.image_size = origin.options.get("image_size")
    if same:
        if arguments.data_dir is None:
            arguments.data_dir = origin.path
        if arguments.test_share is None:
            arguments.test_share = origin.options.get("test_share")
        arguments.data_seed = origin.options.get("seed", 0)
