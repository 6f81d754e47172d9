"""Bounds on a picture that its header states, checked before a decoder takes memory for it."""

from __future__ import annotations

from typing import Any

from ..errors import DataError

PIXELS = 1 << 24  # of one picture that is decoded
_TILE_WIDTH, _TILE_HEIGHT = 322, 323  # tags of a TIFF


def check(data: bytes, path: str) -> None:
    """Refuse a WebP or GIF by its header: Pillow takes memory for its pixels when it opens one.

    Raises:
        DataError: it states more than `PIXELS` pixels.

    >>> check(b"GIF89a" + bytes([255] * 4) + bytes(3) + b";", "a.gif")
    Traceback (most recent call last):
    fp16engine.errors.DataError: a.gif must have at most 16777216 pixels, got 65535x65535
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        check_size(path, *_of_webp(data))
    elif data[:4] == b"GIF8":
        check_size(path, *_of_gif(data))


def check_size(path: str, width: int, height: int) -> None:
    """Refuse more than `PIXELS` pixels by a DataError."""
    if width * height > PIXELS:
        raise DataError(f"{path} must have at most {PIXELS} pixels, got {width}x{height}")


def check_tiles(image: Any, path: str) -> None:
    """Refuse an image of Pillow's, a TIFF, whose tiles have more than `PIXELS` pixels."""
    if image.format == "TIFF":
        check_size(path, *(int(image.tag_v2.get(tag, 1)) for tag in (_TILE_WIDTH, _TILE_HEIGHT)))


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _of_webp(data: bytes) -> tuple[int, int]:
    kind, head = data[12:16], data[20:30]
    if kind == b"VP8X":
        return _little(head[4:7]) + 1, _little(head[7:10]) + 1
    if kind == b"VP8L":
        bits = _little(head[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return _little(head[6:8]) & 0x3FFF, _little(head[8:10]) & 0x3FFF


def _of_gif(data: bytes) -> tuple[int, int]:
    """Return width and height that hold the screen and the first image, which may reach beyond it."""
    width, height = _little(data[6:8]), _little(data[8:10])
    at = 13 + _table(data[10:11])
    while data[at : at + 1] == b"!":  # an extension: blocks, each after its length, until an empty one
        at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    if data[at : at + 1] == b",":
        x, y, w, h = (_little(data[i : i + 2]) for i in range(at + 1, at + 9, 2))
        width, height = max(width, x + w), max(height, y + h)
    return width, height


def _table(flags: bytes) -> int:
    """Return the bytes of the colour table that a GIF's flags announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0
