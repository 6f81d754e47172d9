"""The options that commands share: their checks, their defaults, and what they turn into."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import validate
from ..errors import BackendUnavailable, UnsupportedPrecision
from ..optim import BY_NAME
from ..optim.adam import checked_betas
from ..optim.optimizer import STATES
from ..precision import CONVOLUTIONS, STATISTICS_FORMS, UPDATES, Precision
from . import defaults, suggest

if TYPE_CHECKING:
    from ..data import Dataset
    from ..nn import Module
    from ..train import TrainConfig

T = TypeVar("T")
DATA = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "image_folder")
OPTIMIZERS = tuple(BY_NAME)
# As the engine has them, which a test sees to: a parser is built without loading data sets and the trainer.
AUGMENTATIONS = ("none", "study", "crop-flip", "airbench")
PRECISIONS = "fp32, fp16, fp16-strict, fp16-chunk<n>, mp, bf16, bf16-sr, hbfp<m>, booster, tf32"
SCHEDULES = ("constant", "cosine", "linear", "triangle", "inverse-sqrt")
RECIPES = ("airbench94", "airbench94-muon")
LOGGERS = ("tensorboard", "wandb", "trackio", "mlflow")
REDUCE = ("one-rounding", "ring-fp16", "fp32")
TRANSPORTS = ("auto", "mpi", "nccl")
ON_NONFINITE = ("skip", "stop", "explain")


def wrong(valid: str, text: str) -> argparse.ArgumentTypeError:
    """Return the error of an option's value, before which the parser puts the option's name."""
    return argparse.ArgumentTypeError(f"must be {valid}, got {validate.shown(text)}")


def whole(least: int) -> Callable[[str], int]:
    """Return a parser of integers of at least `least`."""

    def parse(text: str) -> int:
        return _checked(text, int, lambda value: validate.integer("", value, least))

    return parse


def number(positive: bool) -> Callable[[str], float]:
    """Return a parser of finite numbers, > 0 or >= 0."""
    limit = {"above": 0.0} if positive else {"minimum": 0.0}

    def parse(text: str) -> float:
        return _checked(text, float, lambda value: validate.number("", value, **limit))

    return parse


def share(text: str) -> float:
    """Parse a share of a whole, neither nothing nor all of it."""
    return _checked(text, float, lambda value: validate.number("", value, above=0, below=1))


def betas(text: str) -> tuple[float, float]:
    """Parse the decays of adam's two moments, with a comma between."""
    try:
        return checked_betas([float(part) for part in text.split(",")])
    except (TypeError, ValueError):
        raise wrong("two numbers >= 0 and < 1 with a comma between, such as 0.9,0.98", text) from None


def _checked(text: str, convert: Callable[[str], T], check: Callable[[Any], T]) -> T:
    try:
        value: Any = convert(text)
    except ValueError:
        value = text  # the check says what it must be
    try:
        return check(value)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error).strip()) from None


def one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    """Return a parser of one of these names."""

    def parse(text: str) -> str:
        if text not in names:
            message = f"{wrong(validate.one_of(names), text)}{suggest.closest(text, names)}"
            raise argparse.ArgumentTypeError(message)
        return text

    return parse


def precision(text: str) -> str:
    """Parse the name of a precision."""
    try:
        return Precision.get(text).name
    except BackendUnavailable as error:  # a package that the policy needs is not installed
        raise argparse.ArgumentTypeError(str(error)) from None
    except (ValueError, UnsupportedPrecision) as error:
        hint = suggest.precision(text, Precision.names())
        raise argparse.ArgumentTypeError(str(error).removeprefix("precision").lstrip(": ") + hint) from None


def precisions(text: str) -> list[str]:
    """Parse a comma-separated list of precisions, each named once."""
    names = [precision(part.strip()) for part in text.split(",")]
    if len(set(names)) < len(names):
        raise wrong("different precisions", text)
    return names


def loggers(text: str) -> list[str]:
    """Parse a comma-separated list of loggers."""
    parse = one_of(LOGGERS)
    return [parse(part.strip()) for part in text.split(",")]


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the option that names loggers."""
    parser.add_argument(
        "--log",
        type=loggers,
        default=[],
        metavar="LIST",
        help=f"comma-separated: {', '.join(LOGGERS)}: send the rows of metrics.jsonl there, too "
        "(docs/logging.md)",
    )


def add_data(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add the options that name the data."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        type=one_of(DATA),
        default=default,
        metavar="NAME",
        help=f"{', '.join(DATA)} (default: {default or 'that of the checkpoint'})",
    )
    group.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where the data set's files are, or your own images (not needed for digits)",
    )
    group.add_argument(
        "--download", action="store_true", help="fetch missing files into --data-dir (checksummed)"
    )
    group.add_argument(
        "--image-size",
        type=whole(1),
        metavar="N",
        help="image_folder: bring every image to N x N pixels, the shorter side resized, then the centre "
        "cropped (default: the files' own size, which must be the same)",
    )
    group.add_argument(
        "--test-share",
        type=share,
        metavar="X",
        help="image_folder: draw this share of every class for the test part, where the folder has none; the "
        "same images for every --seed (default: 0.2)",
    )
    group.add_argument(
        "--limit", type=whole(1), metavar="N", help="use the first N training and N test images only"
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options of the network and its training, shared by train and compare."""
    group = parser.add_argument_group("network and training (defaults: see below)")
    group.add_argument(
        "--model", metavar="NAME", help="dnn, alexnet, resnet20, … (an unknown name lists all)"
    )
    group.add_argument("--epochs", type=whole(1), metavar="N", help="passes over the training images")
    group.add_argument("--batch-size", type=whole(1), metavar="N", help="images per step")
    group.add_argument("--lr", type=number(True), metavar="X", help="learning rate")
    group.add_argument(
        "--optimizer",
        type=one_of(OPTIMIZERS),
        metavar="NAME",
        help=f"{', '.join(OPTIMIZERS)} (default: sgd)",
    )
    group.add_argument(
        "--momentum",
        type=number(False),
        metavar="X",
        help="of sgd and muon (default: 0.9); in FP16 a steady gradient leaves it short of its limit, by "
        "3 %% at 0.99 and a quarter at 0.999 (docs/optimizers.md)",
    )
    group.add_argument(
        "--nesterov",
        action="store_true",
        default=None,
        help="Nesterov's momentum (sgd; muon's always is)",
    )
    group.add_argument(
        "--betas",
        type=betas,
        metavar="X,Y",
        help="of adam and adamw: what is kept of the first and second moment (default: 0.9,0.999)",
    )
    group.add_argument(
        "--eps",
        type=number(False),
        metavar="X",
        help="of adam, adamw, rmsprop (default: 1e-8; 1e-3 with --state plain in FP16, where 0 is allowed)",
    )
    group.add_argument(
        "--state",
        type=one_of(STATES),
        default="native",
        metavar="NAME",
        help="of adam, adamw, rmsprop in FP16: native (roots, rounded stochastically) or plain, which fails "
        "for a small --eps (default: native)",
    )
    group.add_argument(
        "--update",
        type=one_of(UPDATES),
        metavar="NAME",
        help="how FP16 weights take an update: nearest, stochastic, kahan or master32 (an FP32 copy) "
        "(default: the precision's)",
    )
    group.add_argument(
        "--statistics",
        type=one_of(STATISTICS_FORMS),
        metavar="NAME",
        help="running statistics of batch norms in FP16: native (standard deviations, and what rounding "
        "takes) or plain (variances, which overflow from a standard deviation of 256 on) (default: native)",
    )
    group.add_argument(
        "--convolution",
        type=one_of(CONVOLUTIONS),
        metavar="NAME",
        help="of 3x3 kernels at stride 1 on a CPU: direct, or winograd with a quarter of the products "
        "(default: winograd with fp32, fp16 and mp, else direct)",
    )
    group.add_argument(
        "--clip-norm",
        type=number(True),
        metavar="X",
        help="largest norm of all gradients together, summed in FP32 (default: none)",
    )
    group.add_argument(
        "--accumulate",
        type=whole(1),
        default=1,
        metavar="N",
        help="batches whose gradients are added up in FP32 for one update, their mean rounded once "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--weight-decay",
        type=number(False),
        metavar="X",
        help="default: 0; not for the convolutions of ResNets and DenseNets, which have their own",
    )
    group.add_argument(
        "--schedule",
        type=one_of(SCHEDULES),
        metavar="NAME",
        help="learning rate over the run: cosine, linear (to 0), triangle (rises for 23 %%, then falls to "
        "7 %%), inverse-sqrt (falls with the root of the step after --warmup steps) or constant (default: "
        "cosine)",
    )
    group.add_argument(
        "--warmup",
        type=whole(0),
        default=0,
        metavar="N",
        help="applied steps over which the learning rate rises to --lr first (default: %(default)s)",
    )
    group.add_argument(
        "--augment",
        type=one_of(AUGMENTATIONS),
        metavar="NAME",
        help="random changes of the training images: study (flips, brightness, rotation), crop-flip, "
        "airbench (alternating flips, shifts by 2) or none (default: none)",
    )
    group.add_argument(
        "--label-smoothing",
        type=number(False),
        metavar="X",
        help="share of a label spread over all classes, in training alone (default: 0)",
    )
    group.add_argument(
        "--seed",
        type=whole(0),
        default=0,
        metavar="N",
        help="of initial weights, data order, dropout and augmentation (default: 0)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the options of the machine."""
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="cpu; cuda or cuda:N (a GPU); reference (NumPy, very slow) (default: cpu)",
    )
    group.add_argument("--threads", type=whole(1), metavar="N", help="CPU threads (default: all cores)")


def add_ranks(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run that several processes share."""
    group = parser.add_argument_group("several processes (by mpiexec, srun or torchrun)")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="train one network on all processes that mpiexec started: a step takes P times --accumulate "
        "batches (needs the extra mpi); with --device cuda each takes a GPU of its machine",
    )
    group.add_argument(
        "--transport",
        type=one_of(TRANSPORTS),
        default=TRANSPORTS[0],
        metavar="NAME",
        help="how gradients travel: mpi (through the host), nccl (from GPU to GPU; never tried on one) or "
        "auto (mpi where an MPI started the processes, nccl where torchrun or srun did) (default: auto)",
    )
    group.add_argument(
        "--sync-norm",
        action="store_true",
        help="batch norms take the statistics of all processes' batches together (default: each its own)",
    )
    group.add_argument(
        "--reduce",
        type=one_of(REDUCE),
        default=REDUCE[0],
        metavar="NAME",
        help="how gradients become their mean: one-rounding (FP32 sums in order, rounded once), ring-fp16 "
        "(added in FP16 along a ring) or fp32 (a ring in FP32, twice the bytes) (default: %(default)s)",
    )
    group.add_argument(
        "--peer-limit",
        type=number(True),
        default=300.0,
        metavar="SECONDS",
        help="for how long a process may leave the others waiting before the run ends (default: 300)",
    )


def add_numerics(parser: argparse.ArgumentParser) -> None:
    """Add the options of what is watched during training."""
    group = parser.add_argument_group("numerics")
    group.add_argument(
        "--monitor-every",
        type=whole(1),
        metavar="N",
        help="look at the ranges and lost updates of every layer every N steps",
    )
    group.add_argument(
        "--on-nonfinite",
        type=one_of(ON_NONFINITE),
        default="skip",
        metavar="WHAT",
        help="a step with a loss or gradient that is not finite: skip it (default), stop, or explain, which "
        "replays it, names the operation, and stops",
    )
    group.add_argument(
        "--max-bad-steps",
        type=whole(1),
        default=50,
        metavar="N",
        help="steps in a row that may be not finite before the run fails (default: %(default)s)",
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="fail before training if a step holds or adds up in a type that the precision forbids",
    )


def add_output(parser: argparse.ArgumentParser, folder: bool) -> None:
    """Add the options of where results go."""
    group = parser.add_argument_group("results")
    if folder:
        group.add_argument(
            "--out", type=folder_name, metavar="DIR", help="results folder (default: a new one under runs/)"
        )
        group.add_argument(
            "--resume", action="store_true", help="continue with what is in --out, bit for bit"
        )
        group.add_argument(
            "--checkpoint-every",
            type=whole(1),
            metavar="N",
            help="save every N steps too, not only after epochs",
        )
        group.add_argument(
            "--log-every",
            type=whole(1),
            default=50,
            metavar="N",
            help="steps between rows of metrics.jsonl (default: %(default)s)",
        )
    group.add_argument(
        "--json", action="store_true", help="print one JSON document on standard output, nothing else"
    )


def fill(arguments: argparse.Namespace) -> None:
    """Put defaults where the command line said nothing, and check the model's name."""
    defaults.fill(arguments)
    check_model(arguments.model, "--model")


def check_model(name: str, option: str) -> None:
    """Raise ValueError with the nearest name if no network has this one."""
    from .. import models

    if not models.known(name):
        near = suggest.closest(name, models.names())
        raise ValueError(validate.must_be(option, models.names_text(), name) + near)


def load_data(arguments: argparse.Namespace) -> Dataset:
    """Load the data set that the options name."""
    from .. import data

    if arguments.data_dir is not None and not arguments.download and not Path(arguments.data_dir).exists():
        raise FileNotFoundError(f"--data-dir must be a folder or file that exists, got {arguments.data_dir}")
    dataset = data.load(
        arguments.data,
        arguments.data_dir,
        download=arguments.download,
        image_size=arguments.image_size,
        test_share=arguments.test_share,
        seed=getattr(arguments, "data_seed", 0),  # of a run's own data set
    )
    return dataset.limit(arguments.limit) if arguments.limit else dataset


def make_model(arguments: argparse.Namespace, dataset: Dataset) -> Module:
    """Make the network that the options name, for this data."""
    from .. import models

    model = models.create(
        arguments.model,
        num_classes=len(dataset.classes),
        image_size=dataset.image_size,
        channels=dataset.channels,
        seed=arguments.seed,
        weights=getattr(arguments, "weights", None),
    )
    return models.prepare(model, dataset)


def use_threads(arguments: argparse.Namespace) -> None:
    """Tell the backend how many threads to use, before it starts any."""
    from .. import backend as backends

    if arguments.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    backend: Any = backends.get(arguments.device)
    if arguments.threads is not None and backend.capabilities.threads:
        backend.set_num_threads(arguments.threads)


def train_config(arguments: argparse.Namespace) -> TrainConfig:
    """Return how the options say to train."""
    from ..train import TrainConfig
    from ..train.config import MOMENTUM_OPTIMIZERS

    defaults.put(arguments, defaults.PLAIN)
    if arguments.optimizer not in MOMENTUM_OPTIMIZERS and arguments.momentum is not None:
        raise ValueError(
            f"--momentum must not be given with {arguments.optimizer}, got {arguments.momentum:g}; only sgd "
            "and muon have it"
        )
    return TrainConfig(
        optimizer=arguments.optimizer,
        lr=arguments.lr,
        momentum=arguments.momentum,
        eps=arguments.eps,
        weight_decay=arguments.weight_decay,
        nesterov=arguments.nesterov,
        state=arguments.state,
        betas=arguments.betas,
        clip_norm=arguments.clip_norm,
        schedule=arguments.schedule,
        warmup=arguments.warmup,
        augment=None if arguments.augment == "none" else arguments.augment,
        label_smoothing=arguments.label_smoothing,
        update=arguments.update,
        statistics=arguments.statistics,
        convolution=arguments.convolution,
        refinements=getattr(arguments, "refinements", None),
        accumulate=arguments.accumulate,
    )


def training_changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `TrainConfig` that the options change; None takes away what the study has."""
    names = ("optimizer", "lr", "momentum", "eps", "weight_decay", "schedule", "state", "augment")
    training = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if training.get("augment") == "none":
        training["augment"] = None
    if arguments.optimizer not in (None, "sgd"):
        training.setdefault("momentum", None)  # sgd's, which the study's runs have
    return training


def by_data_set(pairs: list[tuple[str, str]], option: str) -> dict[str, str]:
    """Return the values by the data set they are for; "" is for all."""
    result = dict(pairs)
    for name, value in pairs:
        if name and name not in DATA:
            raise ValueError(validate.must_be(f"{option}: the name before =", validate.one_of(DATA), name))
        if option == "--data" and value not in DATA:
            near = suggest.closest(value, DATA)
            raise ValueError(validate.must_be(option, validate.one_of(DATA), value) + near)
        if option == "--data-dir" and not Path(value).expanduser().exists():
            raise FileNotFoundError(f"{option} must be a folder or file that exists, got {value}")
    return result


def folder_name(text: str) -> str:
    """Parse the name of a folder."""
    _path(text)
    return text


def new_file(text: str) -> Path:
    """Parse the name of a file that is not there yet."""
    path = _path(text)
    if path.exists():
        raise argparse.ArgumentTypeError(f"must be a new file, got {text}, which exists")
    return path


def new_file_here(text: str) -> Path:
    """Parse the name of a file that is not there yet, in a folder that is there and can be written."""
    path = new_file(text)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"must be in a folder that exists and can be written, got {text}")
    return path


def _path(text: str) -> Path:
    try:
        return validate.path("", text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).strip()) from None


def results_folder(arguments: argparse.Namespace, stem: str) -> Path:
    """Return --out, or by default runs/STEM: the first free number of it, with --resume the last used one."""
    if arguments.out is not None:
        return Path(arguments.out)
    runs = Path("runs")
    pattern = re.compile(re.escape(stem) + r"(?:-(\d+))?")
    found = [pattern.fullmatch(path.name) for path in runs.glob("*")]
    used = sorted(int(match[1] or 1) for match in found if match)
    if arguments.resume:
        if not used:
            raise FileNotFoundError(
                f"--resume must have {runs / stem} to continue, got none; name the folder with --out"
            )
        last = used[-1]
        return runs / (stem if last == 1 else f"{stem}-{last}")
    return runs / (f"{stem}-{used[-1] + 1}" if used else stem)
