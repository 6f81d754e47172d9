"""Networks whose names hold numbers: any depth of a family, and narrow ones for small machines."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..nn import Module
from . import activations
from .resnet import ResNet
from .resnet_basic import BLOCKS, BasicResNet
from .vit import vit

Builder = Callable[[int, tuple[int, int], int], Module]

# For error messages, after the names that the study has.
WORDS = (
    "or resnetN (N = 6n + 2), vitN, resnet18-wN or resnet34-wN (N channels in the first stage), each also "
    f"with another non-linearity (+{', +'.join(activations.NAMES)})"
)


def builder(name: str) -> Builder | None:
    """Return what builds the network of a name with a number in it, None if there is no such network.

    >>> builder("vit2")(10, (32, 32), 3).num_parameters()
    1361674
    >>> builder("resnet21") is None
    True
    """
    found = re.fullmatch(r"resnet([1-9]\d{0,3})", name)
    if found and int(found[1]) % 6 == 2 and int(found[1]) > 2:
        depth = int(found[1])
        return lambda classes, size, channels: ResNet(depth, classes, channels)
    found = re.fullmatch(r"vit([1-9]\d{0,2})", name)
    if found:
        blocks = int(found[1])
        return lambda classes, size, channels: vit(blocks, classes, size, channels)
    found = re.fullmatch(r"resnet(18|34)-w([1-9]\d{0,3})", name)
    if found:
        stages, width = BLOCKS[int(found[1])], int(found[2])
        return lambda classes, size, channels: BasicResNet(stages, classes, channels, width)
    return None
