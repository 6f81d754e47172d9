"""What the options of training are where the command line does not say: a recipe's, or the data set's."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from .. import validate
from ..precision import Precision


@dataclass(frozen=True)
class Defaults:
    """What a data set is trained with when the command line does not say."""

    model: str
    epochs: int
    batch_size: int
    lr: float


DEFAULTS = {
    "digits": Defaults("resnet20", 20, 64, 0.05),
    "mnist": Defaults("dnn", 10, 128, 0.05),
    "fashion_mnist": Defaults("dnn", 10, 128, 0.05),
    "cifar10": Defaults("resnet20", 30, 128, 0.1),
    "cifar100": Defaults("resnet20", 30, 128, 0.1),
    "image_folder": Defaults("resnet20", 20, 64, 0.05),
}
_ADAPTIVE_LR = 1e-3  # for adam, adamw and rmsprop, whose steps do not scale with the gradient
_MUON_LR = 0.02
# Of the options that a recipe may set, too: what they are without one.
PLAIN = {
    "data": "digits",
    "optimizer": "sgd",
    "nesterov": False,
    "weight_decay": 0.0,
    "schedule": "cosine",
    "augment": "none",
    "label_smoothing": 0.0,
}


def table() -> str:
    """Return the table of defaults for a help text."""
    rows = [
        f"  {name:<14}{d.model:<10}{d.epochs:>6}{d.batch_size:>7}  {d.lr:<6g}" for name, d in DEFAULTS.items()
    ]
    head = (
        f"  {'data':<14}{'model':<10}{'epochs':>6}{'batch':>7}"
        f"  lr (adam, adamw, rmsprop: {_ADAPTIVE_LR:g}, muon: {_MUON_LR:g})"
    )
    return "\n".join(["defaults:", head, *rows])


def fill(arguments: argparse.Namespace) -> None:
    """Put a recipe's values, or those of the data set, where the command line said nothing."""
    arguments.refinements = None
    put(arguments, PLAIN if getattr(arguments, "recipe", None) is None else _of_recipe(arguments))
    put(arguments, vars(DEFAULTS[arguments.data]) | _own_rate(arguments.optimizer))


def _of_recipe(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the recipe that the options name says, by option."""
    from ..train import recipes

    recipe = recipes.get(arguments.recipe, arguments.batch_size)
    training = recipe.training
    for name, own in (("model", recipe.model), ("optimizer", training.optimizer)):
        if (given := getattr(arguments, name)) not in (None, own):
            raise ValueError(validate.must_be(f"--{name}", f"{own} with --recipe {recipe.name}", given))
    arguments.refinements = training.refinements
    values = {name: getattr(training, name) for name in (*PLAIN, "lr", "momentum") if name != "data"}
    if Precision.get(arguments.precision).storage == "float16":
        scaled = Precision.get(arguments.precision).loss_scale is not None
        values["loss_scale"] = "policy" if scaled else "auto"
    names = ("data", "model", "epochs", "batch_size")
    return values | {name: getattr(recipe, name) for name in names}


def _own_rate(optimizer: str) -> dict[str, float]:
    """Return the default learning rate of optimizers whose steps do not scale with the gradient."""
    return {} if optimizer == "sgd" else {"lr": _MUON_LR if optimizer == "muon" else _ADAPTIVE_LR}


def put(arguments: argparse.Namespace, values: dict[str, Any]) -> None:
    """Put values, by option, where the command line said nothing."""
    for name, value in values.items():
        if getattr(arguments, name, None) is None:
            setattr(arguments, name, value)
