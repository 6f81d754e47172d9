"""One picture of any size and kind as the pixels that a network takes. Needs Pillow (extra `data`)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from . import canvas
from .canvas import PIXELS

_USUAL = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SUFFIXES = (*_USUAL, ".avif", ".heic", ".heif")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
_REDUCED = 1 << 26  # of a JPEG that is decoded at a half, a quarter or an eighth of its size
_PNG = b"\x89PNG\r\n\x1a\n"
_BEGINNINGS = (_PNG, b"\xff\xd8", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GRAY = ("1", "L", "LA", "I", "I;16", "I;16B")
_DEEP = ("I", "I;16", "I;16B")
_ALPHA = ("LA", "PA", "RGBA")
_ORIENTATION, _QUARTER_TURNS = 0x0112, (5, 6, 7, 8)  # of EXIF
_WIDTH, _HEIGHT, _BITS = 256, 257, 258  # tags of a TIFF


class Header(NamedTuple):
    """What a picture's first bytes tell: (height, width) as it is shown, and its kind."""

    size: tuple[int, int]
    gray: bool
    deep: bool  # 16 bits a channel
    cost: int  # pixels of the file, twice those of pictures that need more room for each


class Picture(NamedTuple):
    """Pixels (H, W, C), uint8, and whether some of them were transparent."""

    pixels: np.ndarray
    transparent: bool


def pillow(needed_for: str = "image_folder") -> Any:
    """Return Pillow's module Image; DataError where it is not installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(f"{needed_for} needs the package Pillow; pip install 'fp16engine[data]'") from error
    return Image


@cache
def formats() -> tuple[str, ...]:
    """Return which formats this machine's Pillow reads; HEIF needs the package pillow-heif."""
    image_module = pillow()
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener()
    image_module.init()
    return tuple(name for name in _FORMATS if name in image_module.OPEN)


def begins_like_a_picture(data: bytes) -> bool:
    """Tell by the first bytes of a file whether it may be a picture of a known kind."""
    return data.startswith(_BEGINNINGS) or data[4:8] == b"ftyp"


@contextmanager
def decoding(path: str) -> Iterator[None]:
    """Turn whatever a decoder raises into a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # damaged bytes can make a decoder raise nearly anything
        said = shorten(str(error) or type(error).__name__, 200)
        if isinstance(error, pillow().UnidentifiedImageError):  # whose text is the address of a stream
            said = "no image that is known"
            if path.lower().endswith((".heic", ".heif")) and "HEIF" not in formats():
                said += "; HEIF needs the package pillow-heif"
        elif isinstance(error, MemoryError):
            said = "it exceeds memory"
        raise DataError(f"{path} must be a whole image, got one that is not decoded ({said})") from error


@contextmanager
def our_limits() -> Iterator[None]:
    """Keep Pillow from warning of many pixels: our own limits are below."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pillow().DecompressionBombWarning)
        yield


def header(data: bytes, path: str, resized: bool) -> Header:
    """Return what a picture is, without its pixels.

    `resized`: it will be brought to another size, so that a large JPEG may be decoded at a part of its own.

    Raises:
        DataError: no picture, or one of too many pixels.
    """
    with decoding(path):
        image, whole = _opened(data, path, resized)
        deep = image.mode in _DEEP or _depth(image, data) > 8
        size = _shown_size(image)
        costly = deep or image.mode not in ("1", "L", "P", "RGB")
        return Header(size, image.mode in _GRAY, deep, whole * (2 if costly else 1))


def read(data: bytes, path: str, size: tuple[int, int] | None, gray: bool) -> Picture:
    """Return a picture in the orientation it is shown in.

    Args:
        data: of the file.
        path: what errors call it.
        size: (height, width) that it is brought to, see `fitted`; None keeps its own.
        gray: one channel (ITU-R 601 luma of colours), else three.

    16 bits a channel are rounded to 8 where gray, cut to 8 in colour as Pillow does; transparent pixels are
    laid on white; CMYK becomes RGB. Of a GIF or TIFF of several images, the first is taken.

    Raises:
        DataError: no picture, one of too many pixels, or a damaged one.
    """
    with decoding(path):
        image = _opened(data, path, size is not None)[0]
        image.load()  # a TIFF is turned when it is decoded
        return of_image(image, size, gray, path)


def of_image(image: Any, size: tuple[int, int] | None, gray: bool, path: str = "x") -> Picture:
    """Return an image of Pillow's as `read` does."""
    from PIL import ImageOps

    _check_mode(image, path)
    if "exif" in image.info:
        image = ImageOps.exif_transpose(image)
    image = _plain(image)
    if size is not None:
        image = fitted(image, size)
    transparent = False
    if image.mode in ("LA", "RGBA"):
        mask = image.getchannel("A")
        transparent = mask.getextrema() != (255, 255)
        mode = image.mode[:-1]
        paper = pillow().new(mode, image.size, "white")
        paper.paste(image.convert(mode), mask=mask)
        image = paper
    mode = "L" if gray else "RGB"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return Picture(pixels.reshape(*pixels.shape[:2], -1), transparent)


def fitted(image: Any, size: tuple[int, int]) -> Any:
    """Return an image of Pillow's at (height, width): the shorter side is resized, the centre cropped.

    Bicubic, over all pixels that a new one covers.
    """
    height, width = size
    if (image.height, image.width) == (height, width):
        return image
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    left, top = max(left, 0), max(top, 0)
    box = left, top, image.width - left, image.height - top
    return image.resize((width, height), pillow().Resampling.BICUBIC, box)


def _opened(data: bytes, path: str, resized: bool) -> tuple[Any, int]:
    """Return an image whose pixels are decoded later, and how many the file has."""
    canvas.check(data, path)
    image = pillow().open(io.BytesIO(data), formats=formats())
    count = image.width * image.height
    # a progressive one is decoded whole, whatever size is asked for
    smaller = resized and image.format == "JPEG" and "progressive" not in image.info
    if PIXELS < count <= _REDUCED and smaller:
        image.draft(image.mode, (image.width // 2, image.height // 2))
    canvas.check_size(path, image.width, image.height)
    canvas.check_tiles(image, path)
    _check_mode(image, path)
    return image, count


def _check_mode(image: Any, path: str) -> None:
    """Refuse floating-point values: nothing says which of them is white."""
    if image.mode == "F":
        raise DataError(f"{path} must have 8 or 16 bits a channel, got floating-point values")


def _depth(image: Any, data: bytes) -> int:
    """Return the bits a channel of a PNG or TIFF; Pillow shows most of 16 as if they were 8."""
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(_BITS, (8,))))
    return data[24] if len(data) > 24 and data.startswith(_PNG) else 8


def _shown_size(image: Any) -> tuple[int, int]:
    """Return (height, width) of an image after EXIF's orientation."""
    width, height = image.size
    if image.format == "TIFF":  # whose `size` is turned or not by Pillow's version
        width, height = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
        turned = image.tag_v2.get(_ORIENTATION) in _QUARTER_TURNS
    else:
        turned = "exif" in image.info and image.getexif().get(_ORIENTATION) in _QUARTER_TURNS
    return (width, height) if turned else (height, width)


def _plain(image: Any) -> Any:
    """Return an image of mode L, LA, RGB or RGBA."""
    if image.mode in _DEEP:
        values = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
        return pillow().fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("L", "LA", "RGB", "RGBA") and "transparency" not in image.info:
        return image
    if image.mode in _ALPHA or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")
