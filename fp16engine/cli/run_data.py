"""The data set of a run, found again from its checkpoint, or the one that the options name."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from . import options

if TYPE_CHECKING:
    from ..data import Dataset
    from ..train import Checkpoint
    from ..train.source import ImageSource


def of_run(arguments: argparse.Namespace, checkpoint: Checkpoint) -> tuple[Dataset, ImageSource]:
    """Return the data set, normalised as in training, and what the checkpoint says of its images.

    `--limit` cuts the test part. Without `--data` it is the run's own, where it was unless `--data-dir` says
    another place.
    """
    from ..prediction.predictor import source_of

    limit, arguments.limit = arguments.limit, None
    _fill(arguments, checkpoint)
    whole = options.load_data(arguments)
    source = source_of(checkpoint, whole)
    return replace(whole, test=whole.test.first(limit), moments=(source.mean, source.std)), source


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
