"""Recipes: network, epochs, batch size and training that belong together, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..data.augment import Augmentation
from ..validate import choice, integer
from .config import TrainConfig
from .refinements import Refinements

_MOMENTUM = 0.85
# A steady gradient makes steps of Nesterov momentum this much longer than itself; airbench's rates are per
# step.
_LENGTHENED = 1 + 1 / (1 - _MOMENTUM)
_WHITENING_EPOCHS = (("whitening.bias", 3),)
_SMOOTHING = 0.2
# airbench's Muon variant divides the outputs by 256 and starts the head 256 / 9 times larger; the rate of
# the head follows from the network's own 1 / 9.
_HEAD = (9 / 256) ** 2


@dataclass(frozen=True)
class Recipe:
    """What `fp16engine train --recipe NAME` does where the command line says nothing else.

    Args:
        name: of the recipe.
        model: a name that `models.create` knows.
        data: the data set it was made for.
        epochs: passes over the training images.
        batch_size: images in a step.
        training: how the network is trained; FP16 precisions without a loss scale choose it from the
            histogram of the gradients.

    >>> get("airbench94").epochs
    10
    """

    name: str
    model: str
    data: str
    epochs: int
    batch_size: int
    training: TrainConfig


def _airbench94(batch_size: int | None) -> Recipe:
    """SGD of arXiv 2404.00498: rates of the sum over a batch are rates of the mean times the batch."""
    size = 1024 if batch_size is None else batch_size
    training = TrainConfig(
        optimizer="sgd",
        lr=11.5 * size / 1024 / _LENGTHENED,
        momentum=_MOMENTUM,
        nesterov=True,
        weight_decay=0.0153 / 11.5,
        schedule="triangle",
        augment=Augmentation.get("airbench"),
        label_smoothing=_SMOOTHING,
        refinements=Refinements(
            lr_factors=(("*.beta", 64.0),),
            trained_epochs=_WHITENING_EPOCHS,
            lookahead=5,
            views="mirror-shift",
        ),
    )
    return Recipe("airbench94", "airbench94", "cifar10", 10, size, training)


def _airbench94_muon(batch_size: int | None) -> Recipe:
    """Muon for the convolutions, SGD for the rest, of airbench94_muon.py."""
    size, lr = 2000 if batch_size is None else batch_size, 0.24
    biases, head = 0.053 * size / lr, 0.67 * size * _HEAD / lr
    training = TrainConfig(
        optimizer="muon",
        lr=lr,
        momentum=0.6,
        weight_decay=2e-6 * size / lr,
        schedule="linear",
        augment=Augmentation.get("airbench"),
        label_smoothing=_SMOOTHING,
        refinements=Refinements(
            lr_factors=(("head.weight", head), ("*.beta", biases), ("whitening.bias", biases)),
            trained_epochs=_WHITENING_EPOCHS,
            views="mirror-shift",
            muon_steps=3,
            unit_rows=True,
            sgd_momentum=_MOMENTUM,
        ),
    )
    return Recipe("airbench94-muon", "airbench94", "cifar10", 8, size, training)


_RECIPES: dict[str, Callable[[int | None], Recipe]] = {
    "airbench94": _airbench94,
    "airbench94-muon": _airbench94_muon,
}


def names() -> tuple[str, ...]:
    """Return the names of the recipes.

    >>> names()
    ('airbench94', 'airbench94-muon')
    """
    return tuple(_RECIPES)


def get(name: str, batch_size: int | None = None) -> Recipe:
    """Return a recipe, with learning rates for another batch size where one is given.

    Args:
        name: one of `names()`.
        batch_size: images in a step, >= 1; None means the recipe's own.

    Raises:
        ValueError: there is no such recipe, or batch_size is out of range.
        TypeError: batch_size is no integer.

    >>> round(get("airbench94").training.lr, 9), round(get("airbench94", 512).training.lr, 9)
    (1.5, 0.75)
    """
    make = _RECIPES[choice("recipe", name, _RECIPES)]
    return make(None if batch_size is None else integer("batch_size", batch_size, 1))
