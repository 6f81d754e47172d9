"""What a checkpoint says of the images that its network was trained on, so that it can be used on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..data import Dataset
from ..data.origin import Origin
from ..data.picture import PIXELS
from ..validate import instance, integer, listed, number, pair

_OPTIONS = ("image_size", "test_share", "seed")


@dataclass(frozen=True)
class ImageSource:
    """The images of a run: their classes, their form, what normalised them, and where they came from.

    Args:
        classes: names, in the order of the labels.
        image_size: (height, width).
        channels: of an image.
        mean: of the training images, in pixel values.
        std: of the training images, in pixel values, > 0.
        origin: None where the data set had none.

    >>> import fp16engine as fe
    >>> ImageSource.of(fe.data.digits()).image_size
    (8, 8)
    """

    classes: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    mean: float
    std: float
    origin: Origin | None

    @classmethod
    def of(cls, dataset: Any) -> ImageSource | None:
        """Return what a data set says; None for one of text."""
        if not isinstance(dataset, Dataset):
            return None
        form = dataset.image_size, dataset.channels
        return cls(dataset.classes, *form, dataset.mean, dataset.std, dataset.origin)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        stored = asdict(self)
        return {**stored, "classes": list(self.classes), "image_size": list(self.image_size)}

    @classmethod
    def from_dict(cls, stored: Any) -> ImageSource:
        """Return what `to_dict` gave; TypeError or ValueError for anything else."""
        instance("images", stored, Mapping, "a table")
        classes = [
            instance("images: a class", name, str, "text")
            for name in listed("images: classes", stored.get("classes"), "a list of names")
        ]
        integer("images: number of classes", len(classes), 1)
        size = pair("images: image_size", stored.get("image_size"), 1)
        integer("images: pixels of an image", size[0] * size[1], 1, PIXELS)
        return cls(
            tuple(classes),
            size,
            integer("images: channels", stored.get("channels"), 1),
            number("images: mean", stored.get("mean"), minimum=0, maximum=255),
            number("images: std", stored.get("std"), above=0, maximum=255),
            None if stored.get("origin") is None else _origin(stored["origin"]),
        )


def _origin(stored: Any) -> Origin:
    instance("images: origin", stored, Mapping, "a table")
    path, options = stored.get("path"), stored.get("options", {})
    instance("images: kind", stored.get("kind"), str, "text")
    instance("images: path", path, str | None, "text or None")
    instance("images: options", options, Mapping, "a table")
    kept = {name: options[name] for name in _OPTIONS if options.get(name) is not None}
    if isinstance(kept.get("image_size"), Sequence):
        kept["image_size"] = pair("images: image_size", kept["image_size"], 1)
    return Origin(stored["kind"], path, kept)
