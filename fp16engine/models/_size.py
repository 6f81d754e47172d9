"""The smallest images a network takes."""

from __future__ import annotations


def at_least(name: str, image_size: tuple[int, int], smallest: int) -> None:
    """Require `smallest` pixels in height and width.

    Raises:
        ValueError: the images are smaller; the message names a network that takes them.
    """
    if min(image_size) < smallest:
        raise ValueError(
            f"image_size must be >= {smallest}x{smallest} for {name}, got "
            f"{image_size[0]}x{image_size[1]}; use 'dnn' or 'resnet20' for small images"
        )
