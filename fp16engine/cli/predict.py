"""`fp16engine predict`."""

from __future__ import annotations

import argparse
import csv
import io
from typing import TYPE_CHECKING, Any

from . import options
from .output import print_json, print_table, share
from .parser import add_command

if TYPE_CHECKING:
    from ..prediction import Predictions, Predictor


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "predict",
        "what a trained network says of new images",
        "Name the class of image files, or of all images in folders, with the network of a run and in the\n"
        "precision it was trained in. Images of any size are resized and cropped as image_folder does, and\n"
        "normalised as in training. A file of a folder that cannot be used is skipped and named; one that\n"
        "is given by its name is an error. The exit status is 1 if no output of the network is finite.",
        "  fp16engine predict runs/photos/fp16 new.jpg\n"
        "  fp16engine predict runs/photos/fp16 ~/new_photos --csv classes.csv",
    )
    parser.add_argument("checkpoint", metavar="RUN", help="a run's folder, or its checkpoint.json")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files, or folders of them")
    _add_data(parser)
    options.add_device(parser)
    options.add_output(parser, folder=False)
    parser.add_argument(
        "--csv",
        type=options.new_file_here,
        metavar="FILE",
        help="write a row per image, with the probability of every class, to a new file",
    )
    parser.set_defaults(run=run)


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data of a run from before checkpoints kept classes and normalisation")
    group.add_argument(
        "--data", type=options.one_of(options.DATA), metavar="NAME", help="what it was trained on"
    )
    group.add_argument("--data-dir", metavar="DIR", help="where its files are")
    parser.set_defaults(download=False, limit=None, image_size=None, test_share=None)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    from ..errors import NonFiniteError
    from ..reporting.files import write_atomically

    predictor = _predictor(arguments)
    found = predictor.predict(arguments.images)
    if arguments.csv is not None:
        write_atomically(arguments.csv, _csv(predictor, found))
    if arguments.json:
        print_json(_document(arguments, predictor, found))
    else:
        _print(predictor, found)
    if (found.labels < 0).all():
        raise NonFiniteError("the network has no prediction: none of its outputs is finite")
    return 0


def _predictor(arguments: argparse.Namespace) -> Predictor:
    from ..prediction import load

    data = None
    if arguments.data is not None or arguments.data_dir is not None:
        _check_needed(arguments)
        data = options.load_data(arguments)
    options.use_threads(arguments)
    return load(arguments.checkpoint, arguments.device, data=data)


def _check_needed(arguments: argparse.Namespace) -> None:
    """Refuse data that would not be used."""
    from ..prediction.predictor import checkpoint_of

    given = "--data" if arguments.data is not None else "--data-dir"
    if checkpoint_of(arguments.checkpoint).images is not None:
        raise ValueError(
            f"{given} must be left out with {arguments.checkpoint}, which holds its own classes and "
            f"normalisation, got {arguments.data or arguments.data_dir}"
        )
    if arguments.data is None:
        raise ValueError(f"--data must be given with --data-dir, got --data-dir {arguments.data_dir} alone")


def _document(arguments: argparse.Namespace, predictor: Predictor, found: Predictions) -> dict[str, Any]:
    return {
        "run": arguments.checkpoint,
        "precision": predictor.precision.name,
        "classes": list(predictor.classes),
        "predictions": [
            {
                "image": name,
                "label": int(label),
                "class": of_class or None,
                "probabilities": None if label < 0 else [float(p) for p in row],
            }
            for name, label, of_class, row in zip(
                found.names, found.labels, found.classes, found.probabilities, strict=True
            )
        ],
        "skipped": [{"image": name, "reason": reason} for name, reason in found.skipped.items()],
    }


def _csv(predictor: Predictor, found: Predictions) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "class", *_columns(predictor, found)])
    for name, of_class, row in zip(found.names, found.classes, found.probabilities, strict=True):
        writer.writerow([name, of_class, *(f"{p:.6g}" for p in row)])
    return text.getvalue()


def _columns(predictor: Predictor, found: Predictions) -> list[str]:
    """Return a name per probability; a network may have more outputs than there are classes."""
    count = found.probabilities.shape[1]
    return [*predictor.classes, *map(str, range(len(predictor.classes), count))][:count]


def _print(predictor: Predictor, found: Predictions) -> None:
    from ..validate import printable

    columns = [printable(name) for name in _columns(predictor, found)]
    rows = []
    for name, label, row in zip(found.names, found.labels, found.probabilities, strict=True):
        if label < 0:
            rows.append((printable(name), "not finite", "", ""))
            continue
        second = max((i for i in range(len(row)) if i != label), key=lambda i: row[i], default=None)
        next_best = "" if second is None else f"{columns[second]} {share(float(row[second]))}"
        rows.append((printable(name), columns[label], share(float(row[label])), next_best))
    print_table("", ("image", "class", "probability", "next"), rows, left=2)
