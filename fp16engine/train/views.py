"""Test-time views of images: what a finished network is asked about each, and what every answer counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .refinements import VIEWS

PLAIN, MIRROR, MIRROR_SHIFT = VIEWS


def views(images: np.ndarray, name: str) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (weight, images) pairs of the same shape and dtype; weights add up to 1 and nothing is rounded.

    Args:
        images: (N, H, W, C), any dtype.
        name: "none": the images; "mirror": half each them and their mirror images; "mirror-shift": the same,
            half of it moved by one pixel, up-left and down-right, with the edge's mirror image without the
            edge itself.

    >>> [weight for weight, _ in views(np.zeros((1, 4, 4, 3)), "mirror-shift")]
    [0.25, 0.25, 0.125, 0.125, 0.125, 0.125]
    """
    if name == PLAIN:
        yield 1.0, images
        return
    shares = [(1.0, images)]
    if name == MIRROR_SHIFT:
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        shares = [(0.5, images), (0.25, padded[:, :-2, :-2]), (0.25, padded[:, 2:, 2:])]
    for share, moved in shares:
        for view in (moved, moved[:, :, ::-1]):
            yield share / 2, np.ascontiguousarray(view)
