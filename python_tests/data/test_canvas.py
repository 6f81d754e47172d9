from __future__ import annotations

import struct

import pytest
from image_files import packed, picture

from fp16engine.data import canvas
from fp16engine.data import picture as pictures
from fp16engine.errors import DataError

_CONTROL = b"!\xf9\x04\x08\0\0\0\0"  # restores the background, for which Pillow takes memory as it opens


def gif(screen: tuple[int, int], place: tuple[int, int, int, int], table: bool = False) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80 if table else 0, 0, 0) + bytes(6 if table else 0)
    return head + _CONTROL + b"," + struct.pack("<HHHHB", *place, 0) + b"\x02\0;"


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize(
    ("screen", "place", "got"),
    [
        ((5000, 5000), (0, 0, 1, 1), "5000x5000"),
        ((4, 4), (0, 0, 65535, 65535), "65535x65535"),
        ((4, 4), (60000, 60000, 8, 8), "60008x60008"),
    ],
)
def test_a_gif_of_many_pixels_is_refused_unopened(
    screen: tuple[int, int], place: tuple[int, int, int, int], got: str, table: bool
) -> None:
    with pytest.raises(DataError, match=f"x must have at most 16777216 pixels, got {got}"):
        canvas.check(gif(screen, place, table), "x")


def test_real_pictures_pass_and_truncated_ones_end() -> None:
    for form in ("GIF", "WEBP", "PNG"):
        data = packed(picture(0), form)
        for kept in range(len(data) + 1):
            canvas.check(data[:kept], "x")


def test_a_tiff_of_vast_tiles_is_refused() -> None:
    def entry(tag: int, value: int) -> bytes:
        return struct.pack("<HHII", tag, 4, 1, value)

    tags = {256: 8, 257: 8, 258: 8, 259: 5, 262: 1, 277: 1, 322: 60000, 323: 60000, 324: 8, 325: 8}
    entries = b"".join(entry(tag, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    for look in (
        lambda: pictures.header(data, "x", False),
        lambda: pictures.read(data, "x", None, True),
    ):
        with pytest.raises(DataError, match="x must have at most 16777216 pixels, got 60000x60000"):
            look()
