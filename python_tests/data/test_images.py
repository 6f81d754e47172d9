from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import Image, chunk, make_files, packed, picture, unpacked, write_archive, write_folder

from fp16engine.data import image_files, image_folder, images
from fp16engine.errors import DataError


@pytest.fixture
def root(tmp_path) -> Path:
    return write_folder(tmp_path / "pets")


def of_one(data: bytes) -> dict[str, bytes]:
    """The same image in both parts of two classes."""
    return {f"{split}/{label}/0.png": data for split in ("train", "test") for label in ("a", "b")}


def kept(folder: Path) -> Path:
    """The one file in the user's cache folder."""
    (path,) = (folder / "fp16engine").iterdir()
    return path


def kept_arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as arrays:
        return dict(arrays)


def forbid_decoding(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("decoded again")

    monkeypatch.setattr(images, "_decoded", refuse)


def test_folder(root):
    data = image_folder(root)
    assert (data.name, data.classes, data.image_size, data.channels) == ("pets", ("cat", "dog"), (4, 6), 3)
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1] and data.test.labels.tolist() == [0, 1, 0, 1]
    for i, (label, name) in enumerate((label, f"{i:03}.png") for i in range(3) for label in ("cat", "dog")):
        expected = unpacked((root / "train" / label / name).read_bytes())
        np.testing.assert_array_equal(data.train.images[i], expected)


@pytest.mark.parametrize("name", ["pets.tar.gz", "pets.tgz", "pets.tar", "pets.zip"])
@pytest.mark.parametrize("prefix", ["", "./", "pets/"])
@pytest.mark.parametrize("folders", [True, False])
def test_archives_equal_the_folder(tmp_path, root, name, prefix, folders):
    path = write_archive(tmp_path / name, make_files(), prefix, folders)
    before = sorted(tmp_path.rglob("*"))
    data, expected = image_folder(path, cache=False), image_folder(root, cache=False)
    assert (data.name, data.classes) == ("pets", expected.classes)
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(data, part).images, getattr(expected, part).images)
        np.testing.assert_array_equal(getattr(data, part).labels, getattr(expected, part).labels)
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked to disk


def test_order_does_not_depend_on_the_archive(tmp_path):
    files = make_files()
    backwards = dict(reversed(files.items()))
    one, two = (
        image_folder(write_archive(tmp_path / f"{i}.zip", f)) for i, f in enumerate((files, backwards))
    )
    np.testing.assert_array_equal(one.train.images, two.train.images)


def test_other_files_are_left_alone(tmp_path, root):
    for name in (
        "README.txt",
        "train/notes.md",
        "train/cat/Thumbs.db",
        "train/cat/.DS_Store",
        "train/.hidden/x.png",
    ):
        write_folder(root, {name: b"x"})
    assert len(image_folder(root).train) == 6
    extra = {
        "README.txt": b"x",
        "__MACOSX/train/cat/._000.png": b"x",
        "cover.png": b"x",
        "train/cat/._0.png": b"x",
    }
    assert len(image_folder(write_archive(tmp_path / "a.zip", make_files() | extra)).train) == 6


def test_gray(tmp_path):
    files = make_files("L")
    data = image_folder(write_folder(tmp_path / "x", files))
    assert data.channels == 1
    np.testing.assert_array_equal(data.train.images[0, ..., 0], unpacked(files["train/cat/000.png"]))


def test_one_colour_image_makes_the_set_colour(tmp_path):
    files = make_files("L", train=300) | {"test/dog/001.png": packed(picture(0, "RGB"))}
    data = image_folder(write_folder(tmp_path / "x", files))
    assert data.channels == 3
    gray = data.train.images[0]
    assert (gray == gray[..., :1]).all()
    np.testing.assert_array_equal(data.test.images[-1], np.asarray(picture(0, "RGB")))


@pytest.mark.parametrize(
    ("mode", "form", "channels"), [("LA", "PNG", 1), ("RGBA", "PNG", 3), ("CMYK", "JPEG", 3)]
)
def test_other_modes(tmp_path, mode, form, channels):
    data = image_folder(write_folder(tmp_path / "x", of_one(packed(picture(0, mode), form))))
    assert data.channels == channels and not data.notes


def test_palette(tmp_path):
    image = picture(0).quantize(4)
    data = image_folder(write_folder(tmp_path / "x", of_one(packed(image))))
    np.testing.assert_array_equal(data.train.images[0], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_laid_on_white(tmp_path, mode):
    image = picture(0, mode)
    image.putalpha(Image.fromarray(np.array([[0, 255, 255, 255, 255, 51]] * 4, np.uint8)))
    data = image_folder(write_folder(tmp_path / "x", of_one(packed(image))))
    found = data.train.images[0].astype(int)
    shown = np.asarray(image.convert("L" if mode == "LA" else "RGB")).reshape(found.shape).astype(int)
    assert (found[:, 0] == 255).all() and (found[:, 1:5] == shown[:, 1:5]).all()
    assert abs(found[:, 5] - (0.2 * shown[:, 5] + 0.8 * 255)).max() <= 1
    assert "4 of 4 images have transparent pixels, laid on white." in data.notes


def test_sixteen_bits_are_rounded(tmp_path):
    values = np.array([[0, 128, 129, 257, 65535, 32768]] * 4, np.uint16)
    data = image_folder(write_folder(tmp_path / "x", of_one(packed(Image.fromarray(values)))))
    assert data.train.images[0, 0, :, 0].tolist() == [0, 0, 1, 1, 255, 128]
    assert "4 of 4 images have 16 bits a channel, which become 8." in data.notes


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_every_kind_are_read_and_noted(tmp_path, colour, channels):
    row = b"\0" + b"\xff" * (6 * 2 * channels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 6, 4, 16, colour, 0, 0, 0))
    deep = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")
    data = image_folder(write_folder(tmp_path / "x", of_one(deep)))
    assert (data.train.images == 255).all()
    assert "4 of 4 images have 16 bits a channel, which become 8." in data.notes


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    files = of_one(packed(picture(0), "JPEG", exif=exif))
    assert image_folder(write_folder(tmp_path / "x", files)).image_size == (6, 4)


def test_single_sample(tmp_path):
    data = image_folder(write_folder(tmp_path / "x", make_files(train=1, test=1)))
    assert (len(data.train), len(data.test), data.classes) == (2, 2, ("cat", "dog"))


def test_a_single_class_is_refused(tmp_path, fails):
    with fails(DataError, "x must hold at least 2 classes", "got one, 'only'"):
        image_folder(write_folder(tmp_path / "x", make_files(classes=("only",))))


def test_mixed_sizes_name_the_first_odd_file(root, fails):
    odd = packed(picture(0, size=(5, 4)))
    write_folder(root, {"train/dog/001.png": odd, "train/cat/002.png": odd})
    with fails(DataError, "train/dog/001.png", "5x4", "6x4", "train/cat/000.png", "--image-size N"):
        image_folder(root)


@pytest.mark.parametrize("kept", [0, 20, 60, -40])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_truncated_images_are_skipped_and_named(root, kept, form):
    whole = image_folder(root, cache=False)
    places = ["train/cat/000.png", "train/dog/002.png", "test/dog/001.png"]
    write_folder(root, {place: packed(picture(0), form)[:kept] for place in places})
    data = image_folder(root)
    assert len(data.train) == 4 and len(data.test) == 3 and data.classes == whole.classes
    (note,) = data.notes
    assert note.startswith("3 files are skipped: ") and all(
        f"{place} must be a whole" in note for place in places
    )
    assert sorted(data.train.labels.tolist()) == [0, 0, 1, 1]
    kept = {image.tobytes() for image in whole.train.images[1:5]}
    assert {image.tobytes() for image in data.train.images} == kept
    assert image_folder(root).notes == data.notes  # of the cache


def test_a_class_of_damaged_images_names_the_first(root, fails):
    for name in ("000.png", "001.png", "002.png"):
        write_folder(root, {f"train/cat/{name}": b"\x89PNG\r\n\x1a\n"})
    with fails(DataError, "train/cat must hold at least one image, got 3", "train/cat/000.png", "and 2 more"):
        image_folder(root)


def test_not_an_image(root):
    write_folder(root, {"train/cat/001.png": b"\0 no picture"})
    assert "no image that is known" in image_folder(root).notes[0]


def test_pixel_bombs_are_skipped(root):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\0\xff\xff\0"
    vast = b"RIFF" + struct.pack("<I", 22) + b"WEBP" + canvas
    write_folder(root, {"train/dog/000.png": bomb, "test/cat/001.png": vast})
    for size in (None, 4):
        data = image_folder(root, size)
        assert (len(data.train), len(data.test)) == (5, 3)
        assert "test/cat/001.png must have at most 16777216 pixels, got 65536x65536" in data.notes[-1]
        assert "train/dog/000.png must" in data.notes[-1]


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_a_file_that_the_system_refuses_is_named_in_words(root):
    (root / "train" / "cat" / "002.png").unlink()
    (root / "train" / "cat" / "002.png").symlink_to("nowhere")
    for cache in (False, True):
        note = image_folder(root, cache=cache).notes[-1]
        assert note == "1 file is skipped: train/cat/002.png cannot be read: No such file or directory."


@pytest.mark.parametrize("split", ["train", "test"])
def test_empty_class(root, split, fails):
    (root / split / "bird").mkdir()
    with fails(DataError, f"{split}/bird must", "got none"):
        image_folder(root)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_empty_class_in_an_archive(tmp_path, name, fails):
    path = write_archive(tmp_path / name, make_files() | {"train/bird/notes.txt": b"x"})
    with fails(DataError, "train/bird must", "got none"):
        image_folder(path)


def test_class_only_in_test(root, fails):
    write_folder(root, {"test/bird/0.png": packed(picture(0))})
    with fails(DataError, "test/bird must", "train/bird"):
        image_folder(root)


def test_class_only_in_train(root):
    write_folder(root, {"train/bird/0.png": packed(picture(0))})
    data = image_folder(root)
    assert data.classes == ("bird", "cat", "dog") and set(data.test.labels) == {1, 2}
    assert "no test images of bird" in data.summary()


def test_misplaced_images(tmp_path, root, fails):
    shutil.copytree(root, tmp_path / "deep")
    write_folder(tmp_path / "deep", {"train/cat/more/0.png": packed(picture(0))})
    with fails(DataError, "train/cat/more", "folder inside a class"):
        image_folder(tmp_path / "deep")
    write_folder(root, {"train/0.png": packed(picture(0))})
    with fails(DataError, "train/0.png", "outside a class"):
        image_folder(root)
    for place in ("train/0.png", "train/cat/more/0.png"):
        path = write_archive(tmp_path / "x.zip", make_files() | {place: packed(picture(0))})
        with fails(DataError, place, "train/<class>/"):
            image_folder(path)


def test_empty_data(tmp_path, fails):
    for split in ("train", "test"):
        (tmp_path / "none" / split).mkdir(parents=True)
    with fails(DataError, "none", "no train images"):
        image_folder(tmp_path / "none")
    with fails(FileNotFoundError, "a.zip", "no folder of images"):
        image_folder(write_archive(tmp_path / "a.zip", {}))
    (tmp_path / "bare").mkdir()
    with fails(FileNotFoundError, "bare", "no folder of images"):
        image_folder(tmp_path / "bare")


def test_missing(tmp_path, root, fails):
    with fails(DataError, "root", "train/<class>/"):
        image_folder(None)
    with fails(FileNotFoundError, "nowhere", "train/<class>/"):
        image_folder(tmp_path / "nowhere")
    shutil.rmtree(root / "train")
    with fails(FileNotFoundError, "got a folder test and no folder train"):
        image_folder(root)
    other = tmp_path / "pets.rar"
    other.touch()
    with fails(DataError, "pets.rar", ".zip"):
        image_folder(other)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar", "a.zip"])
def test_damaged_archive(tmp_path, name, fails):
    path = write_archive(tmp_path / name, make_files())
    whole = path.read_bytes()
    for kept in (0, 100, 700, len(whole) // 2, len(whole) - (11_000 if name == "a.tar" else 12)):
        path.write_bytes(whole[:kept])
        with fails(DataError, f"{name} must"):
            image_folder(path)


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
@pytest.mark.parametrize("name", ["../train/cat/x.png", "/train/cat/x.png", "train/cat/../../../x.png"])
def test_path_traversal(tmp_path, suffix, name, fails):
    path = write_archive(tmp_path / f"a{suffix}", make_files() | {name: b"x"}, folders=False)
    with fails(DataError, path.name, repr(name), "got a path outside"):
        image_folder(path)


def test_links(tmp_path, fails):
    info = tarfile.TarInfo("train/cat/x.png")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as target:
        target.addfile(info)
    with fails(DataError, "a.tar", "train/cat/x.png", "link"):
        image_folder(tmp_path / "a.tar")
    entry = zipfile.ZipInfo("train/cat/x.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr(entry, "/etc/passwd")
    with fails(DataError, "a.zip", "train/cat/x.png", "link"):
        image_folder(tmp_path / "a.zip")


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_size_limits(tmp_path, suffix, monkeypatch, fails):
    path = write_archive(tmp_path / f"a{suffix}", make_files())
    monkeypatch.setattr(image_files, "FILE_LIMIT", 50)
    with fails(DataError, path.name, "at most 50"):
        image_folder(path)
    monkeypatch.setattr(image_files, "ARCHIVE_LIMIT", 100)
    with fails(DataError, path.name, "100"):
        image_folder(path)


def test_two_leading_folders_and_doubled_names(tmp_path, fails):
    files = make_files()
    with fails(DataError, "a.zip", "got 2 folders"):
        image_folder(
            write_archive(tmp_path / "a.zip", files | {f"other/{name}": x for name, x in files.items()})
        )
    start = b"\x89PNG\r\n\x1a\n"
    with tarfile.open(tmp_path / "b.tar", "w") as target:
        for _ in range(2):
            info = tarfile.TarInfo("train/cat/0.png")
            info.size = len(start)
            target.addfile(info, io.BytesIO(start))
    with fails(DataError, "b.tar", "twice"):
        image_folder(tmp_path / "b.tar")


def test_cache_is_used(root, own_cache, monkeypatch):
    first = image_folder(root)
    assert kept(own_cache).is_file() and [path.name for path in root.parent.iterdir()] == ["pets"]
    forbid_decoding(monkeypatch)
    again = image_folder(root)
    assert (again.name, again.classes) == (first.name, first.classes)
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(again, part).images, getattr(first, part).images)
        np.testing.assert_array_equal(getattr(again, part).labels, getattr(first, part).labels)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_cache_of_an_archive(tmp_path, name, monkeypatch):
    path = write_archive(tmp_path / name, make_files())
    first = image_folder(path)
    forbid_decoding(monkeypatch)
    np.testing.assert_array_equal(image_folder(path).train.images, first.train.images)


def test_no_cache(root, own_cache):
    image_folder(root, cache=False)
    assert not list(own_cache.iterdir())


def test_cache_follows_the_bytes(root):
    path = root / "train" / "cat" / "000.png"
    image_folder(root)
    facts = path.stat()
    path.write_bytes(packed(picture(99)).ljust(facts.st_size, b"\0")[: facts.st_size])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_size == facts.st_size and path.stat().st_mtime_ns == facts.st_mtime_ns
    np.testing.assert_array_equal(image_folder(root).train.images[0], np.asarray(picture(99)))
    write_folder(root, {"train/cat/new.png": packed(picture(98))})
    assert len(image_folder(root).train) == 7
    (root / "train" / "cat" / "new.png").unlink()
    assert len(image_folder(root).train) == 6


def test_a_cache_next_to_the_images_is_not_believed(root, own_cache):
    expected = image_folder(root).train.images
    shutil.move(kept(own_cache), root.parent / ".pets.fp16engine.npz")
    planted = kept_arrays(root.parent / ".pets.fp16engine.npz")
    np.savez(root.parent / ".pets.fp16engine.npz", **planted | {"train_images": 255 - expected})
    np.testing.assert_array_equal(image_folder(root).train.images, expected)


@pytest.mark.parametrize("damage", ["cut", "flip", "other", "empty", "bomb", "swap"])
def test_damaged_cache_is_rebuilt_with_a_warning(root, own_cache, damage):
    first = image_folder(root)
    place = kept(own_cache)
    whole = place.read_bytes()
    if damage == "other":
        np.savez(place, something=np.zeros(3))
    elif damage == "bomb":
        np.savez_compressed(place, **kept_arrays(place))
    elif damage == "swap":
        np.savez(place, **kept_arrays(place) | {"fingerprint": np.array("0" * 64)})
    elif damage == "flip":
        at = whole.index(first.train.images.tobytes()[:50])
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    else:
        place.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    with pytest.warns(UserWarning, match=r"images-\w+\.npz: cache is damaged .* decoded again"):
        data = image_folder(root)
    np.testing.assert_array_equal(data.train.images, first.train.images)
    np.testing.assert_array_equal(
        image_folder(root).train.images, first.train.images
    )  # whole again, no warning


def test_cache_with_a_pickle_is_not_run(root, own_cache, tmp_path):
    image_folder(root)

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.savez(kept(own_cache), fingerprint=np.array([Hostile()], object))
    with pytest.warns(UserWarning, match="damaged"):
        image_folder(root)
    assert not (tmp_path / "ran").exists()


def test_full_disk_leaves_no_half_written_cache(root, own_cache, monkeypatch):
    def full(stream, **arrays):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="pets: cache not written .*No space left"):
        data = image_folder(root)
    assert len(data.train) == 6
    assert not list((own_cache / "fp16engine").iterdir())


def test_without_pillow(root, monkeypatch, fails):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with fails(DataError, "package Pillow", "pip install 'fp16engine[data]'"):
        image_folder(root)


def test_real_images(real_data, tmp_path):
    """Every tenth of CIFAR-10's images, for the suite's time."""
    with (
        tarfile.open(real_data("cifar10-images.tar.gz")) as whole,
        tarfile.open(tmp_path / "c.tar", "w") as few,
    ):
        for index, member in enumerate(member for member in whole if member.isfile()):
            if index % 10 == 0:
                few.addfile(member, whole.extractfile(member))
    data = image_folder(tmp_path / "c.tar", cache=False)
    assert (len(data.train), len(data.test), data.image_size, data.channels) == (5_000, 1_000, (32, 32), 3)
    assert data.classes == (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    assert (np.bincount(data.limit(1000).train.labels) == 100).all()
    # CIFAR-10's published mean is 0.4734 and std 0.2516; JPEG changes little. Means of 5 000 images, which
    # vary by 0.12 each, vary by 0.0017.
    assert abs(data.mean / 255 - 0.4734) < 4 * 0.0017 and abs(data.std / 255 - 0.2516) < 4 * 0.0017
