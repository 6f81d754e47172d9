"""Random changes of images: what is drawn, what it does to an image, and what it does not depend on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import bounds
import numpy as np
import pytest

from fp16engine.data import Augmentation
from fp16engine.data.augment import FILLS

DRAWS = 4000
NOTHING = {"flip_lr": False, "flip_ud": False, "rotation": 0.0, "shift": 0, "brightness": 0.0}
WIDE = {"low": -100.0, "high": 100.0, "fill": None}


def augmented(
    backend: Any, images: np.ndarray, index: Any = None, seed: int = 1, epoch: int = 0, **changes: Any
) -> np.ndarray:
    """Return data[index] (all of it by default) after `changes`."""
    index = np.arange(len(images)) if index is None else np.asarray(index)
    y = backend.augment(
        backend.from_numpy(images),
        backend.from_numpy(index.astype(np.int64)),
        seed,
        epoch,
        **{**NOTHING, **WIDE, **changes},
    )
    return np.array(backend.to_numpy(y))


def shares(got: np.ndarray, edges: np.ndarray) -> None:
    """Require as many draws between any two edges as between any other two."""
    counts, _ = np.histogram(got, edges)
    assert counts.sum() == DRAWS
    share = 1 / (len(edges) - 1)
    assert np.all(np.abs(counts / DRAWS - share) < bounds.frequency(share, DRAWS))


@pytest.mark.parametrize(("flip", "shape"), [("flip_lr", (1, 2)), ("flip_ud", (2, 1))])
def test_every_other_image_is_flipped(reference: Any, flip: str, shape: tuple[int, int]) -> None:
    images = np.tile(np.arange(2, dtype=np.float32).reshape(1, *shape, 1), (DRAWS, 1, 1, 1))
    flipped = augmented(reference, images, **{flip: True}).reshape(DRAWS, 2)[:, 0]
    shares(flipped, np.array([-0.5, 0.5, 1.5]))


def test_flips_are_independent(reference: Any) -> None:
    images = np.tile(np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1), (DRAWS, 1, 1, 1))
    corner = augmented(reference, images, flip_lr=True, flip_ud=True)[:, 0, 0, 0]
    shares(corner, np.arange(5) - 0.5)


def test_alternating_flips(backend: Any) -> None:
    """Half of the images are flipped in epoch 0; each is the other way around in the next epoch."""
    images = np.tile(np.arange(2, dtype=np.float16).reshape(1, 1, 2, 1), (DRAWS, 1, 1, 1))
    epochs = [
        augmented(backend, images, epoch=epoch, flip_lr=True, alternating=True).reshape(DRAWS, 2)[:, 0]
        for epoch in range(4)
    ]
    shares(epochs[0].astype(np.float64), np.array([-0.5, 0.5, 1.5]))
    for before, after in pairwise(epochs):
        np.testing.assert_array_equal(after, 1 - before)
    clock = backend.from_numpy(np.array(3))
    np.testing.assert_array_equal(
        augmented(backend, images, epoch=clock, flip_lr=True, alternating=True).reshape(DRAWS, 2)[:, 0],
        epochs[3],
    )


def test_shifts_are_uniform(reference: Any) -> None:
    images = np.zeros((DRAWS, 9, 9, 1), np.float32)
    images[:, 4, 4] = 1
    moved = augmented(reference, images, shift=4, fill=0.0)
    assert np.all(moved.sum((1, 2, 3)) == 1)
    row, column = np.divmod(moved.reshape(DRAWS, 81).argmax(1), 9)
    shares(row, np.arange(10) - 0.5)
    shares(column, np.arange(10) - 0.5)
    shares(9 * row + column, np.arange(82) - 0.5)


def test_brightness_is_uniform(reference: Any) -> None:
    change = augmented(reference, np.zeros((DRAWS, 1, 1, 1), np.float32), brightness=0.25).ravel()
    shares(change, np.linspace(-0.25, 0.25, 9))


def test_angles_are_uniform(reference: Any) -> None:
    """Bilinear values of the column's number are the column: above the centre, it is off by the sine."""
    images = np.tile(np.arange(9, dtype=np.float32)[None, None, :, None], (DRAWS, 9, 1, 1))
    sine = augmented(reference, images, rotation=0.2)[:, 3, 4, 0].astype(np.float64) - 4
    shares(np.arcsin(sine), np.linspace(-0.2, 0.2, 9))


def test_draws_never_change() -> None:
    """A run that a later version resumes must continue as it began: words 0 to 7 of a sample, pinned."""
    from fp16engine.backend.reference.augment import _words

    words = _words(np.array([7, 2**32 + 7]), 2**40 + 5, 3)
    assert words.tolist() == [
        [486374609, 2037513939, 2223139312, 3342117763, 1151179797, 2821263314, 2120808751, 489309247],
        [1129361509, 1114638755, 724089218, 2970337693, 2338594040, 3291750557, 3108617293, 4257861336],
    ]


def test_brightness_keeps_pixels_between_black_and_white(backend: Any) -> None:
    images = np.repeat(np.array([-1, 0, 1], np.float16), 50).reshape(150, 1, 1, 1)
    changed = augmented(backend, images, brightness=0.5, low=-1.0, high=1.0).ravel()
    assert changed.min() == -1 and changed.max() == 1
    assert np.count_nonzero(changed[:50] == -1) > 10 and np.count_nonzero(changed[100:] == 1) > 10
    assert np.all(np.abs(changed - images.ravel()) <= 0.5)


def test_small_images_exactly(backend: Any) -> None:
    """A flipped image is the flipped one, a shifted one is surrounded by the fill or by its mirror image."""
    image = np.arange(1, 7, dtype=np.float16).reshape(2, 3)
    images = np.tile(image[None, :, :, None], (20, 1, 1, 1))
    flipped = augmented(backend, images, flip_lr=True, flip_ud=True)[..., 0]
    expected = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
    kinds = [[bool(np.array_equal(got, one)) for one in expected] for got in flipped]
    assert np.all(np.sum(kinds, 1) == 1) and np.all(np.any(kinds, 0))

    def windows(padded: np.ndarray) -> list[np.ndarray]:
        return [padded[r : r + 2, c : c + 3] for r in range(5) for c in range(5)]

    for fill, padded in (
        (-9.0, np.pad(image, 2, constant_values=-9)),
        (None, np.pad(image, 2, mode="symmetric")),
    ):
        for got in augmented(backend, images, shift=2, fill=fill)[..., 0]:
            assert any(np.array_equal(got, window) for window in windows(padded))


def test_rotation_against_float64(reference: Any) -> None:
    """Every value of a rotated image, against the same formula in double precision."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (6, 8, 11, 1)).astype(np.float32)
    got = augmented(reference, images, rotation=0.2, fill=0.0)
    ramp = np.tile(np.arange(9, dtype=np.float32)[None, None, :, None], (6, 9, 1, 1))
    angles = np.arcsin(augmented(reference, ramp, rotation=0.2)[:, 3, 4, 0].astype(np.float64) - 4)
    for image, angle, turned in zip(images[..., 0], angles, got[..., 0], strict=True):
        u, v = np.meshgrid(np.arange(8) - 3.5, np.arange(11) - 5.0, indexing="ij")
        rows = np.cos(angle) * u + np.sin(angle) * v + 3.5
        columns = np.cos(angle) * v - np.sin(angle) * u + 5
        padded = np.pad(image.astype(np.float64), 3)
        r, c = np.floor(rows).astype(int), np.floor(columns).astype(int)
        exact = sum(
            weight * padded[r + i + 3, c + j + 3]
            for i, below in ((0, 1 - (rows - r)), (1, rows - r))
            for j, weight in ((0, below * (1 - (columns - c))), (1, below * (columns - c)))
        )
        # A place is at most 12 away from 0 and good to some roundings of that; slopes are at most 2.
        np.testing.assert_allclose(turned, exact, rtol=0, atol=32 * 12 * bounds.U["float32"])


def test_neither_batch_nor_order_matters(backend: Any) -> None:
    images = np.random.default_rng(1).standard_normal((12, 6, 5, 3)).astype(np.float16)
    study: dict[str, Any] = dict(zip(NOTHING, (True, True, 0.2, 0, 0.3), strict=True))
    whole = augmented(backend, images, **study)
    order = np.random.default_rng(2).permutation(12)
    parts = [augmented(backend, images, order[i : i + 5], **study) for i in (0, 5, 10)]
    bounds.same_bits(np.concatenate(parts), whole[order])
    others: list[dict[str, Any]] = [{"epoch": 1}, {"seed": 2}]
    for other in others:
        assert not np.array_equal(augmented(backend, images, **study, **other), whole)


def test_the_epoch_may_lie_on_the_device(backend: Any) -> None:
    images = np.random.default_rng(1).standard_normal((4, 6, 5, 1)).astype(np.float16)
    counted = augmented(backend, images, epoch=3, rotation=0.2)
    read = augmented(backend, images, epoch=backend.from_numpy(np.array(3)), rotation=0.2)
    bounds.same_bits(read, counted)


def test_presets() -> None:
    assert Augmentation.get(None) is None
    study = Augmentation.get("study")
    assert study is not None
    assert (study.flip_lr, study.flip_ud, study.brightness, study.rotation, study.shift) == (
        True,
        True,
        0.1,
        0.2,
        0,
    )
    assert Augmentation.get(study.to_dict()) == study
    assert Augmentation.get(study) is study
    # pixels 0 to 255 with mean 100 and std 50: ±10 % of white is ±25.5, or ±0.51 after normalisation
    assert study.arguments(100.0, 50.0) == (True, True, 0.2, 0, 0.51, -2.0, 3.1, None, False)
    assert "alternating" not in study.to_dict()  # so that runs of earlier versions can be resumed
    airbench = Augmentation.get("airbench")
    assert airbench is not None and Augmentation.get(airbench.to_dict()) == airbench
    assert airbench.arguments(0.0, 1.0)[-1] is True
    with pytest.raises(ValueError, match="flip_lr must be True with alternating, got False"):
        Augmentation(alternating=True)
    fills = [Augmentation(shift=1, fill=fill).arguments(100.0, 50.0)[-2] for fill in FILLS]
    assert fills == [None, 0.0, -2.0]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"flip_lr": 1}, TypeError, r"flip_lr must .* got 1"),
        ({"brightness": "much"}, TypeError, r"brightness must .* got 'much'"),
        ({"brightness": 1.5}, ValueError, r"brightness must .* got 1.5"),
        ({"rotation": float("nan")}, ValueError, r"rotation must .* got nan"),
        ({"shift": 1.0}, TypeError, r"shift must .* got 1.0"),
        ({"shift": -1}, ValueError, r"shift must .* got -1"),
        ({"fill": "white"}, ValueError, r"fill must .* got 'white'"),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Augmentation(**arguments)


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match=r"augment must .* got 'cutout'"):
        Augmentation.get("cutout")
