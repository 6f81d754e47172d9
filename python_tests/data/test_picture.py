from __future__ import annotations

import numpy as np
import pytest
from image_files import Image, packed, picture

from fp16engine.data import picture as pictures
from fp16engine.errors import DataError


@pytest.mark.parametrize("form", ["GIF", "TIFF"])
def test_the_first_of_several_images_is_taken(form: str) -> None:
    first, second = picture(1), picture(2)
    data = packed(first, form, save_all=True, append_images=[second])
    np.testing.assert_array_equal(pictures.read(data, "x", None, False).pixels, np.asarray(first))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_orientation_of_a_tiff(compression: str) -> None:
    shown = np.rot90(np.asarray(picture(0)), -1)
    data = packed(picture(0), "TIFF", compression=compression, tiffinfo={274: 6})
    size = (shown.shape[0], shown.shape[1])
    assert pictures.header(data, "x", False).size == size
    for asked in (None, size):
        np.testing.assert_array_equal(pictures.read(data, "x", asked, False).pixels, shown)


def test_floating_point_values_have_no_white() -> None:
    image = Image.fromarray(np.zeros((4, 6), np.float32))
    words = "x must have 8 or 16 bits a channel, got floating-point values"
    with pytest.raises(DataError, match=words):
        pictures.header(packed(image, "TIFF"), "x", False)
    with pytest.raises(DataError, match=words):
        pictures.of_image(image, None, True)


def test_sixteen_bits_of_a_tiff() -> None:
    data = packed(Image.fromarray(np.full((4, 6), 257 * 9, np.uint16)), "TIFF")
    assert pictures.header(data, "x", False)[1:3] == (True, True)
    assert (pictures.read(data, "x", None, True).pixels == 9).all()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_beginnings(form: str) -> None:
    assert pictures.begins_like_a_picture(packed(picture(0), form))
    assert not pictures.begins_like_a_picture(b"\0" + packed(picture(0), form))
