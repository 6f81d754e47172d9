"""Networks by name, as the study defines them; a family per file, a builder per size.

A builder takes (num_classes, image_size, channels) and returns a `Module` from (N, H, W, C) to (N,
num_classes).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import random
from ..nn import Module, init
from ..validate import instance, integer, must_be, pair
from . import activations, transformer
from .airbench import WHITENING_IMAGES, Airbench94, airbench94
from .alexnet import alexnet, alexnet_4096
from .densenet import densenet40, densenet121, densenet169
from .dnn import dnn
from .families import WORDS, Builder, builder
from .mobilenet import mobilenetv2
from .resnet import resnet20, resnet32, resnet44, resnet56, resnet110, resnet156
from .resnet_basic import resnet18, resnet34
from .vgg import vgg16, vgg19
from .vit import vit8, vit12
from .weights import load as load_weights
from .xception import xception

if TYPE_CHECKING:
    from ..data import Dataset

__all__ = ["create", "from_config", "known", "names", "outline", "prepare", "transformer"]

_BUILDERS: dict[str, Builder] = {
    "dnn": dnn,
    "alexnet": alexnet,
    "alexnet-4096": alexnet_4096,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "resnet110": resnet110,
    "resnet156": resnet156,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "vgg16": vgg16,
    "vgg19": vgg19,
    "densenet40": densenet40,
    "densenet121": densenet121,
    "densenet169": densenet169,
    "xception": xception,
    "mobilenetv2": mobilenetv2,
    "vit8": vit8,
    "vit12": vit12,
    "airbench94": airbench94,
}


def names() -> list[str]:
    """Return the names of the networks; `create` also knows other depths and widths of some.

    >>> import fp16engine as fe
    >>> fe.models.names()[:3]
    ['dnn', 'alexnet', 'alexnet-4096']
    """
    return list(_BUILDERS)


def known(name: str) -> bool:
    """Tell whether `create` knows a name.

    Args:
        name: any string.

    >>> known("resnet20"), known("resnet26"), known("resnet27")
    (True, True, False)
    """
    return _find(name) is not None


def _find(name: str) -> Builder | None:
    """Return what builds the network of a name, with another non-linearity where the name says so."""
    if not isinstance(name, str):
        return None
    base, sign, activation = name.partition("+")
    build = _BUILDERS.get(base) or builder(base)
    if build is None or not sign:
        return build
    if activation not in activations.NAMES:
        return None

    def other(num_classes: int, image_size: tuple[int, int], channels: int) -> Module:
        model = build(num_classes, image_size, channels)
        activations.replace(model, activation)
        return model

    return other


def names_text() -> str:
    """Return the names that `create` knows, for an error."""
    return f"one of {', '.join(_BUILDERS)} {WORDS}"


def create(
    name: str,
    num_classes: int = 10,
    image_size: int | Sequence[int] = 32,
    channels: int = 3,
    seed: int = 0,
    *,
    weights: str | os.PathLike[str] | None = None,
) -> Module:
    """Return a new network in float32 on "cpu"; equal arguments give equal initial weights, bit for bit.

    Args:
        name: one of `names()`, or "resnetN" with N = 6n + 2, "vitN" with N blocks, "resnet18-wN" or
            "resnet34-wN" with N channels in the first stage; "+gelu", "+tanh", "+relu", "+relu6" after any of
            them puts that non-linearity in the place of the network's own.
        num_classes: outputs, >= 1.
        image_size: height and width of the images, one integer for both.
        channels: of the images, >= 1.
        seed: of the initial weights. The global random state is not touched.
        weights: of a trained network of this name: a run's folder or its checkpoint.json, or a safetensors
            file; None for initial ones. Where the network has another number of classes its last layer stays
            new, and `model.new_tensors` names its tensors; all else must fit. float16 values are exact in
            float32; FP32 masters are not read.

    The arguments but the last are kept as `model.config`, from which `create(**model.config)` makes the
    network again.

    Raises:
        ValueError: the name is unknown, a number is out of range, or the images are too small for the
            network.
        TypeError: an argument is of the wrong kind.
        CheckpointError: there are no such weights, or they are damaged or another network's.
        MemoryError: the network does not fit into memory.

    >>> import fp16engine as fe
    >>> fe.models.create("resnet20", image_size=8, channels=1).num_parameters()
    270122
    """
    build = _find(name)
    if build is None:
        raise ValueError(must_be("model", names_text(), name))
    size = pair("image_size", image_size, 1)
    config: dict[str, Any] = {
        "name": name,
        "num_classes": integer("num_classes", num_classes, 1),
        "image_size": list(size),
        "channels": integer("channels", channels, 1),
        "seed": random.checked_seed(seed),
    }
    with random.fork(config["seed"]):
        model = build(config["num_classes"], size, config["channels"])
    model.config = config
    if weights is not None:
        model.new_tensors = load_weights(model, weights)
    return model


def from_config(config: dict[str, Any]) -> Module:
    """Return the network of a `model.config`: one of `create`'s, or of `transformer.create`'s.

    Args:
        config: the arguments of either, by name.

    Raises:
        ValueError: an argument is out of range, or the name is unknown.
        TypeError: an argument is unknown.
        KeyError: there is no name.

    >>> import fp16engine as fe
    >>> model = fe.models.create("dnn", image_size=8, channels=1)
    >>> fe.models.from_config(model.config).num_parameters() == model.num_parameters()
    True
    """
    if config["name"] in transformer.names():
        return transformer.create(**config)
    return create(**config)


def prepare(model: Module, dataset: Dataset) -> Module:
    """Give a new network what it takes from the training images, and return it: airbench94 its first layer.

    Args:
        model: any network; those that take nothing stay as they are.
        dataset: a `data.Dataset` of the network's image size and channels.

    Raises:
        TypeError: model is no Module, or dataset no `data.Dataset`.
        ValueError: the images have other channels than the network takes.

    Rounding:
        Images are normalised in float32; filters are computed in float64 and rounded once.

    >>> import fp16engine as fe
    >>> model = fe.models.create("dnn", image_size=8, channels=1)
    >>> fe.models.prepare(model, fe.data.digits()) is model
    True
    """
    from ..data import Dataset

    instance("model", model, Module, "a Module")
    instance("dataset", dataset, Dataset, "a data.Dataset")
    if isinstance(model, Airbench94):
        images = dataset.train.images[:WHITENING_IMAGES].astype(np.float32)
        model.whiten((images - np.float32(dataset.mean)) / np.float32(dataset.std or 1.0))
    return model


def outline(config: dict[str, Any]) -> Module:
    """Return the network of `from_config` without values: names and shapes, in next to no memory.

    Args:
        config: the arguments of either `create`, by name.

    Raises:
        ValueError: an argument is out of range, or the name is unknown.
        TypeError: an argument is unknown.
        KeyError: there is no name.

    >>> import fp16engine as fe
    >>> fe.models.outline({"name": "dnn", "num_classes": 10**9}).num_parameters() > 512 * 10**9
    True
    """
    with init.shapes_only():
        return from_config(config)
