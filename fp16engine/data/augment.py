"""Random changes of training images: flips, shifts, rotations, brightness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..validate import choice, flag, integer, must_be, number

FILLS = ("mirror", "mean", "black")
_WHITE = 255.0  # the largest pixel value


@dataclass(frozen=True)
class Augmentation:
    """What happens at random to a training image before the network sees it; never to a test image.

    Args:
        flip_lr: mirror left and right, with probability 1/2.
        flip_ud: turn upside down, with probability 1/2.
        brightness: add the same amount to every pixel, uniform in ±`brightness` times white, and keep pixels
            between black and white; 0.1 is the study's ±10 %.
        rotation: turn about the centre by an angle uniform in ±`rotation` radians (at most pi), bilinear.
        shift: move by a whole number of pixels, uniform in ±`shift`, down and across.
        fill: what lies outside the image: "mirror" (its mirror image at the edge), "mean" (0 in normalised
            data, as He et al., 1512.03385, pad) or "black".
        alternating: mirror left and right an image that `flip_lr` mirrors in the first epoch in every other
            epoch, and the others in those between: no image is seen the same way around twice in a row.

    Sample i in epoch e of a run with seed s gets what Philox4x32-10 gives for (s, e, i): neither the batch
    size nor the order nor an interruption changes it. Values are computed in FP32 registers and rounded once
    to the storage dtype.

    Presets: "airbench" is that of Jordan, arXiv 2404.00498 (alternating flips, shifts by 2), "study" is
    Table 3 of arXiv 2305.10947 (both flips, brightness ±10 %, rotation ±0.2 rad), "crop-flip" the usual
    padding by 4, random crop and left-right flip.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of range.

    >>> Augmentation.get("crop-flip") == Augmentation(flip_lr=True, shift=4, fill="mean")
    True
    """

    flip_lr: bool = False
    flip_ud: bool = False
    brightness: float = 0.0
    rotation: float = 0.0
    shift: int = 0
    fill: str = "mirror"
    alternating: bool = False

    def __post_init__(self) -> None:
        for name in ("flip_lr", "flip_ud", "alternating"):
            flag(name, getattr(self, name))
        if self.alternating and not self.flip_lr:
            raise ValueError("flip_lr must be True with alternating, got False")
        for name, most in (("brightness", 1.0), ("rotation", math.pi)):
            value = number(name, getattr(self, name), minimum=0, maximum=most)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "shift", integer("shift", self.shift, 0))
        choice("fill", self.fill, FILLS)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the presets.

        >>> Augmentation.names()
        ('study', 'crop-flip', 'airbench')
        """
        return tuple(_PRESETS)

    @classmethod
    def get(cls, value: str | Mapping[str, Any] | Augmentation | None) -> Augmentation | None:
        """Return a preset, or what `to_dict` described.

        Args:
            value: a preset's name, the arguments by name, or an Augmentation or None, which pass through.

        Raises:
            TypeError: a description has an unknown or a wrong argument.
            ValueError: no preset has this name, or a description is out of range.

        >>> Augmentation.get({"shift": 2}).shift
        2
        """
        if value is None or isinstance(value, Augmentation):
            return value
        if isinstance(value, Mapping):
            return cls(**value)
        if not isinstance(value, str) or value not in _PRESETS:
            raise ValueError(
                must_be("augment", f"one of {', '.join(_PRESETS)}, an Augmentation or None", value)
            )
        return _PRESETS[value]

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as JSON values.

        >>> Augmentation(shift=2).to_dict()["shift"]
        2
        """
        described = asdict(self)
        if not self.alternating:
            del described["alternating"]  # so are those of earlier versions
        return described

    def arguments(self, mean: float, std: float) -> tuple[Any, ...]:
        """Return the last arguments of `Backend.augment` for normalised images.

            normalised pixel = (pixel - mean) / std, so brightness is b * 255 / std and black -mean / std

        Args:
            mean: of the training images, in pixel values.
            std: of the training images, in pixel values, > 0.

        Raises:
            ZeroDivisionError: std is 0.

        >>> Augmentation(shift=4, fill="black").arguments(mean=100.0, std=50.0)
        (False, False, 0.0, 4, 0.0, -2.0, 3.1, -2.0, False)
        """
        black, white = -mean / std, (_WHITE - mean) / std
        fill = {"mirror": None, "mean": 0.0, "black": black}[self.fill]
        brightness = self.brightness * _WHITE / std
        changes = (self.flip_lr, self.flip_ud, self.rotation, self.shift, brightness, black, white, fill)
        return (*changes, self.alternating)


_PRESETS = {
    "study": Augmentation(flip_lr=True, flip_ud=True, brightness=0.1, rotation=0.2),
    "crop-flip": Augmentation(flip_lr=True, shift=4, fill="mean"),
    "airbench": Augmentation(flip_lr=True, shift=2, alternating=True),
}
