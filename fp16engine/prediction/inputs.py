"""New images in any form as the pixels that a network was trained on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import validate
from ..bounded import MEMBER_LIMIT, read_regular
from ..data import arrays, image_files, picture
from ..data.image_files import FILE_LIMIT, is_image
from ..errors import DataError
from ..train.source import ImageSource
from ..validate import must_be

BATCH = 256  # images in memory at a time
_KINDS = "a path, a PIL image, an array of uint8 pixels, or a list of these"
_WITH_ALPHA = 4


def prepared(x: Any, source: ImageSource, skipped: dict[str, str]) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield names and pixels (N, H, W, C), uint8, of at most `BATCH` images at a time.

    Files of a folder that cannot be used go to `skipped`, with the reason.

    Raises:
        TypeError: x is none of the kinds.
        DataError: a file that x names is no image, a folder has none that can be used, or an array has
            another shape; the message names it.
        FileNotFoundError: there is no such file.
    """
    names: list[str] = []
    images: list[np.ndarray] = []
    for name, image in _each(x, source, skipped):
        names.append(name)
        images.append(image)
        if len(images) == BATCH:
            yield names, np.stack(images)
            names, images = [], []
    if images:
        yield names, np.stack(images)


def _each(
    x: Any, source: ImageSource, skipped: dict[str, str], name: str = "x"
) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(x, str | os.PathLike):
        path = validate.path(name, x).expanduser()
        if path.is_dir():
            yield from _usable(path, source, skipped)
        elif path.exists() or path.is_symlink():
            yield str(path), _file(path, source)
        else:
            raise FileNotFoundError(f"{path} must be an image or a folder of images, got nothing there")
    elif isinstance(x, list | tuple):
        for number, entry in enumerate(x):
            yield from _each(entry, source, skipped, f"{name}[{number}]")
    elif hasattr(x, "getextrema") and hasattr(x, "convert"):
        yield name, _picture(name, x, source)
    elif hasattr(x, "shape") and hasattr(x, "dtype"):
        array = _batch(name, arrays.host(name, x))
        single = len(array) == 1
        for number, image in enumerate(array):
            yield name if single else f"{name}[{number}]", _pixels(name, image, source)
    else:
        raise TypeError(must_be(name, _KINDS, type(x) if not isinstance(x, type) else x))


def _usable(folder: Path, source: ImageSource, skipped: dict[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the images below a folder that can be used; DataError where there are none."""
    picture.pillow()
    _is_gray(source)  # what no file can help is an error before any is read
    paths = _files(folder)
    for path in paths:
        try:
            pixels = _file(path, source)
        except (DataError, OSError) as error:
            skipped[str(path)] = image_files.reason(str(path), error)
        else:
            yield str(path), pixels
    reasons = [skipped[str(path)] for path in paths if str(path) in skipped]
    if len(reasons) == len(paths):
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        raise DataError(f"{folder} must hold an image that can be used, got none: {reasons[0]}{more}")


def _files(path: Path) -> list[Path]:
    """Return the images below a folder, sorted; hidden ones do not count."""
    found: list[Path] = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if is_image(name)]
        if len(found) > MEMBER_LIMIT:
            raise DataError(f"{path} must hold at most {MEMBER_LIMIT} images, got more")
    if not found:
        raise DataError(f"{path} must hold images ({', '.join(picture.SUFFIXES)}), got none")
    return found


def _file(path: Path, source: ImageSource) -> np.ndarray:
    data = read_regular(path, FILE_LIMIT, str(path))
    with picture.our_limits():
        found = picture.read(data, str(path), source.image_size, _is_gray(source))
    return _scaled(found.pixels, source)


def _picture(name: str, image: Any, source: ImageSource) -> np.ndarray:
    return _scaled(picture.of_image(image, source.image_size, _is_gray(source), name).pixels, source)


def _scaled(pixels: np.ndarray, source: ImageSource) -> np.ndarray:
    """Return pixels of a picture, where 255 is white, on the scale of the training images."""
    white = 255 if source.origin is None else source.origin.white
    return pixels if white == 255 else np.rint(pixels * (white / 255)).astype(np.uint8)


def _batch(name: str, array: np.ndarray) -> np.ndarray:
    """Return (N, H, W, C) of one image or several."""
    if array.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8 pixels, got {array.dtype}")
    shape = array.shape
    if len(shape) == 3 and shape[0] <= _WITH_ALPHA:
        arrays.check_layout(name, (1, *shape))
    if len(shape) == 2:
        array = array[None, :, :, None]
    elif len(shape) == 3 and shape[2] <= _WITH_ALPHA:
        array = array[None]
    if array.ndim != 4 or array.size == 0:
        raise DataError(f"{name} must be of shape (H, W), (H, W, C) or (N, H, W, C), got {shape}")
    arrays.check_layout(name, array.shape)
    return array


def _pixels(name: str, image: np.ndarray, source: ImageSource) -> np.ndarray:
    """Return an image (H, W, C) in the size and the channels of training; as it is where it has both."""
    form = (*source.image_size, source.channels)
    if image.shape == form:
        return image
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    if source.channels not in (1, 3) or image.shape[2] not in modes:
        raise DataError(f"{name} must be of shape {form}, got {image.shape}")
    image_module = picture.pillow("another size or number of channels")
    flat = np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image)
    made = image_module.frombytes(modes[image.shape[2]], (image.shape[1], image.shape[0]), flat.tobytes())
    return picture.of_image(made, source.image_size, _is_gray(source)).pixels


def _is_gray(source: ImageSource) -> bool:
    if source.channels not in (1, 3):
        raise DataError(f"x must be arrays of {source.channels} channels as in training, got a picture")
    return source.channels == 1
