"""Folders as people have them: any sizes, one folder of classes, other names of parts, any script."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from image_files import Image, make_files, packed, picture, write_archive, write_folder

from fp16engine.data import Dataset, image_files, image_folder, images, load
from fp16engine.data import picture as pictures
from fp16engine.errors import DataError

SIZES = [(6, 4), (40, 30), (31, 90), (5, 5), (64, 64)]


def one_folder(classes: tuple[str, ...] = ("cat", "dog", "owl"), count: int = 10) -> dict[str, bytes]:
    return {
        f"{label}/{number:03}.png": packed(picture(100 * place + number, size=SIZES[number % len(SIZES)]))
        for place, label in enumerate(classes)
        for number in range(count)
    }


def split_names(data: Dataset, files: dict[str, bytes], size: int) -> tuple[set[str], set[str]]:
    """Which files the parts hold, by their pixels."""
    known = {
        pictures.read(bytes_, name, (size, size), False).pixels.tobytes(): name
        for name, bytes_ in files.items()
    }
    train, test = ({known[image.tobytes()] for image in part.images} for part in (data.train, data.test))
    return train, test


def test_sizes_and_kinds_of_every_sort_are_brought_to_one(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 8
    files = {
        "a/1.jpg": packed(picture(1, size=(90, 31)), "JPEG", exif=turned),
        "a/2.png": packed(picture(2, "RGBA", (7, 50), opaque=False)),
        "a/3.png": packed(picture(3, "L", (300, 200))),
        "b/4.jpeg": packed(picture(4, "CMYK", (20, 20)), "JPEG"),
        "b/5.png": packed(picture(5, size=(1, 1)).quantize(4)),
        "b/6.webp": packed(picture(6, size=(12, 8)), "WEBP"),
        "b/7.png": packed(Image.fromarray(np.full((9, 9), 40_000, np.uint16))),
    }
    data = image_folder(write_folder(tmp_path / "x", files), image_size=8)
    assert data.image_size == (8, 8) and data.channels == 3 and len(data.train) + len(data.test) == 7
    assert "7 of 7 images are resized to 8x8: the shorter side, then the centre is cropped." in data.notes
    assert "1 of 7 images have transparent pixels, laid on white." in data.notes


@pytest.mark.parametrize(("width", "height"), [(12, 4), (4, 12)])
def test_the_shorter_side_is_resized_and_the_centre_cropped(width, height):
    bands = np.zeros((height, width, 3), np.uint8)
    middle = bands[:, 4:8] if width > height else bands[4:8]
    middle[...] = picture(0, size=(4, 4))
    found = pictures.of_image(Image.fromarray(bands), (4, 4), gray=False).pixels
    np.testing.assert_array_equal(found, np.asarray(picture(0, size=(4, 4))))
    flat = Image.new("RGB", (317, 211), (9, 90, 200))
    assert (pictures.of_image(flat, (5, 7), gray=False).pixels == (9, 90, 200)).all()


def test_a_larger_photo_than_is_decoded_whole_is_decoded_smaller(tmp_path):
    large = Image.linear_gradient("L").resize((5000, 4000))
    files = {f"{label}/{i}.jpg": packed(large, "JPEG", quality=50) for label in "ab" for i in range(2)}
    data = image_folder(write_folder(tmp_path / "x", files), image_size=4)
    small = np.asarray(large.crop((500, 0, 4500, 4000)).resize((4, 4), Image.Resampling.BOX)).astype(int)
    assert np.abs(data.train.images[0, ..., 0].astype(int) - small).max() <= 8 and len(data.train) == 2
    with pytest.raises(DataError, match=r"a must hold .* at most 16777216 pixels, got 5000x4000"):
        image_folder(tmp_path / "x")
    whole = {name: packed(large, "JPEG", quality=50, progressive=True) for name in files}
    with pytest.raises(DataError, match=r"a must hold .* at most 16777216 pixels, got 5000x4000"):
        image_folder(write_folder(tmp_path / "x", whole), image_size=4)  # takes memory for all of it


@pytest.mark.parametrize("pack", ["", "a.zip", "a.tar.gz"])
@pytest.mark.parametrize("prefix", ["", "photos/"])
def test_one_folder_of_classes_is_divided(tmp_path, pack, prefix):
    files = one_folder()
    if pack:
        root = write_archive(tmp_path / pack, files, prefix)
    else:
        write_folder(tmp_path / "a", {prefix + name: data for name, data in files.items()})
        root = tmp_path / "a"
    data = image_folder(root, image_size=8)
    assert data.classes == ("cat", "dog", "owl")
    assert np.bincount(data.train.labels).tolist() == [8] * 3
    assert np.bincount(data.test.labels).tolist() == [2] * 3
    train, test = split_names(data, files, 8)
    assert train | test == set(files) and not train & test
    assert "0.2 of every class, drawn with seed 0, is the test part." in data.notes
    again = image_folder(root, image_size=8, cache=False)
    np.testing.assert_array_equal(again.test.images, data.test.images)


def test_the_draw_follows_share_and_seed_alone(tmp_path):
    files = one_folder()
    root = write_folder(tmp_path / "x", files)
    parts = {
        (share, seed): split_names(image_folder(root, 8, share, seed), files, 8)
        for share, seed in ((0.2, 0), (0.2, 1), (0.5, 0))
    }
    assert parts[0.2, 0] != parts[0.2, 1]
    assert len(parts[0.5, 0][1]) == 15 and parts[0.2, 0][1] < parts[0.5, 0][1]
    data = image_folder(root, 8, 0.5, 3)
    assert data.origin is not None
    assert data.origin.path == str(root) and data.origin.options == {
        "image_size": (8, 8),
        "test_share": 0.5,
        "seed": 3,
    }
    again = load("image_folder", data.origin.path, **data.origin.options)
    np.testing.assert_array_equal(again.test.images, data.test.images)


def test_train_alone_is_divided_and_a_single_image_is_trained_on(tmp_path):
    files = {f"train/{name}": data for name, data in one_folder(count=4).items()}
    files["train/rare/only.png"] = packed(picture(1))
    data = image_folder(write_folder(tmp_path / "x", files), 8, test_share=0.25)
    assert np.bincount(data.train.labels).tolist() == [3, 3, 3, 1]
    assert "no test images of rare" in data.summary()
    assert "0.25 of every class of train, drawn with seed 0, is the test part." in data.notes


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "TEST"])
@pytest.mark.parametrize("packed_as", ["", "x.zip"])
def test_other_names_of_the_test_part(tmp_path, name, packed_as):
    files = {
        path.replace("test/", f"{name}/").replace("train/", "Train/"): data
        for path, data in make_files().items()
    }
    root = write_archive(tmp_path / packed_as, files) if packed_as else write_folder(tmp_path / "x", files)
    data = image_folder(root)
    assert (len(data.train), len(data.test), data.notes) == (6, 4, ())


def test_val_next_to_test_is_left_out_and_said(tmp_path):
    files = make_files() | {"valid/cat/0.png": packed(picture(0))}
    data = image_folder(write_folder(tmp_path / "x", files))
    assert len(data.test) == 4 and data.notes == ("valid is left out: test is the test part.",)


def test_arguments(tmp_path):
    root = write_folder(tmp_path / "x", make_files())
    for arguments, words in (
        ({"image_size": 0}, "image_size must be >= 1"),
        ({"image_size": "big"}, "image_size must be an integer or a pair"),
        ({"test_share": 1.0}, "test_share must be .* < 1, got 1.0"),
        ({"test_share": 0.2}, "test_share must be None where test is the test part, got 0.2"),
        ({"seed": -1}, "seed must be an integer"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            image_folder(root, **arguments)
    with pytest.raises(
        ValueError, match="image_size must be left out with digits, which is as published, got 8"
    ):
        load("digits", image_size=8)


def test_names_in_any_script(tmp_path, capsys):
    names = ("кошка", "犬", "बिल्ली", "gato 🐈", "Ka\u0308se", "\x1b[31mred\n")
    files = {f"{label}/{i}.png": packed(picture(i)) for label in names for i in range(3)}
    data = image_folder(write_folder(tmp_path / "x", files))
    assert set(data.classes) == {*names[:4], "K\xe4se", names[5]}  # accents are written in one way
    shown = capsys.readouterr().err
    assert "犬 2 + 1" in shown and "\x1b" not in shown and "\\x1b[31mred\\n 2 + 1" in shown
    assert image_folder(tmp_path / "x").classes == data.classes  # of the cache


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
@pytest.mark.parametrize("pack", [write_folder, write_archive])
@pytest.mark.parametrize("part", ["", "train/"])
def test_folders_that_differ_in_the_spelling_of_an_accent_are_one_class_and_said(tmp_path, pack, part):
    names = ("Käse", unicodedata.normalize("NFD", "Käse"), "Brot")
    files = {f"{part}{name}": data for name, data in one_folder(names, 3).items()}
    root = pack(tmp_path / ("x" if pack is write_folder else "x.zip"), files)
    first, again = image_folder(root, image_size=8), image_folder(root, image_size=8)  # the cache's, too
    assert first.classes == ("Brot", "Käse") and len(first.train) + len(first.test) == 9
    note = "Folders whose names differ only in how Unicode writes accents are one class: Käse."
    assert note in first.notes and first.notes == again.notes


def test_an_accent_spelled_otherwise_in_the_test_part_is_said(tmp_path):
    files = {f"train/{name}": data for name, data in one_folder(("Käse", "Brot"), 3).items()}
    other = unicodedata.normalize("NFD", "Käse")
    files |= {f"test/{name}": data for name, data in one_folder((other, "Brot"), 3).items()}
    data = image_folder(write_folder(tmp_path / "x", files), image_size=8)
    assert data.classes == ("Brot", "Käse") and any(note.endswith("one class: Käse.") for note in data.notes)


def test_joiners_of_scripts_and_emoji_are_shown(tmp_path):
    names = ("\u06af\u0644\u200c\u0647\u0627", "\U0001f469\u200d\U0001f469")
    data = image_folder(write_folder(tmp_path / "x", one_folder(names, 3)), image_size=8)
    assert all(name in data.summary() for name in names)


def test_names_that_are_no_text(tmp_path):
    for label in (b"caf\xe9", b"tea"):
        folder = os.path.join(os.fsencode(tmp_path), b"x", label)
        os.makedirs(folder)
        for i in range(2):
            Path(os.fsdecode(os.path.join(folder, b"%d.png" % i))).write_bytes(packed(picture(i)))
    data = image_folder(tmp_path / "x")
    assert data.classes == ("caf\udce9", "tea") and "caf\\udce9 1 + 1" in data.summary()


def test_files_that_may_not_be_read_are_skipped(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "x", make_files() | {"__MACOSX/train/cat/._0.png": b"x"})
    read = image_files.read_regular

    def refuse(path, limit, name=None):
        if path.name == "001.png" and path.parent.name == "cat":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, limit, name)

    monkeypatch.setattr(image_files, "read_regular", refuse)
    for cache in (True, False):
        data = image_folder(root, cache=cache)
        assert (len(data.train), len(data.test)) == (5, 3) and "Permission denied" in data.notes[0]


def test_odd_things_among_the_images_are_skipped(tmp_path):
    files = one_folder()
    root = write_folder(tmp_path / "x", files)
    (root / "cat" / "link.png").symlink_to(root / "cat" / "000.png")
    (root / "cat" / "gone.png").symlink_to("nowhere")
    (root / "cat" / "self.png").symlink_to(root / "cat" / "self.png")
    (root / "dog" / "text.jpg").write_text("no image")
    (root / "dog" / "later.heic").write_bytes(b"\0\0\0\x18ftypheic")
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "dog" / "fifo.png")
    data = image_folder(root, 8)
    assert len(data.train) + len(data.test) == 31  # a link to an image is an image
    (note,) = [note for note in data.notes if "skipped" in note]
    names = ("cat/gone.png", "cat/self.png", "dog/fifo.png", "dog/later.heic", "dog/text.jpg")
    assert all(name in note for name in names if hasattr(os, "mkfifo") or "fifo" not in name)


def test_a_summary_names_a_few_of_many_files(tmp_path):
    files = make_files(train=3) | {f"train/cat/bad{i:03}.png": b"x" for i in range(300)}
    (note,) = image_folder(write_folder(tmp_path / "x", files)).notes
    assert note.startswith("300 files are skipped: train/cat/bad000.png") and note.endswith("and 295 more.")
    assert len(note) < 1000


def test_upscaling_beyond_memory_is_refused(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "x", make_files())
    monkeypatch.setattr(images, "_ARRAY_FREE", 10)
    monkeypatch.setattr(images, "machine_memory", lambda: 1000_000)
    with pytest.raises(DataError, match=r"at most 500000 bytes, half of this machine's memory.* got 4800000"):
        image_folder(root, 400, cache=False)


def test_progress_is_shown_or_not(tmp_path, capsys):
    root = write_folder(tmp_path / "x", make_files())
    image_folder(root, progress=False)
    assert capsys.readouterr().err == ""
    image_folder(root)
    assert capsys.readouterr().err.startswith("x: 6 training and 4 test images of 4x6x3, 2 classes\n")


@pytest.mark.parametrize("form", ["AVIF", "HEIF"])
def test_formats_that_this_pillow_reads(tmp_path, form):
    if form not in pictures.formats():
        pytest.skip(f"this Pillow reads no {form}")
    wide = Image.new("RGB", (64, 32), (200, 40, 90))
    files = {f"{label}/{i}.{form.lower()}": packed(wide, form) for label in "ab" for i in range(2)}
    data = image_folder(write_folder(tmp_path / "x", files), 8)
    assert np.abs(data.train.images.astype(int) - (200, 40, 90)).max() < 12 and not data.summary().count(
        "skipped"
    )
