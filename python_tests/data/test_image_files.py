from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_files import make_files, packed, picture, write_archive, write_folder

from fp16engine.data import image_folder
from fp16engine.errors import DataError

Pack = Callable[[Path, dict[str, bytes]], Path]


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    return write_archive(path.with_suffix(".zip"), files, prefix="all/")


def test_suffixes_and_formats(tmp_path: Path) -> None:
    forms = {"1.jpg": "JPEG", "2.JPEG": "JPEG", "3.PNG": "PNG", "4.webp": "WEBP", "5.jfif": "JPEG"}
    forms |= {"6.bmp": "BMP", "7.gif": "GIF", "8.tif": "TIFF", "9.TIFF": "TIFF"}
    files = {
        f"{split}/{label}/{name}": packed(picture(0), form)
        for split in ("train", "test")
        for label in ("a", "b")
        for name, form in forms.items()
    }
    data = image_folder(write_folder(tmp_path / "x", files))
    assert len(data.train) == 18 and data.notes == ()
    packs = image_folder(write_archive(tmp_path / "x.zip", files))
    np.testing.assert_array_equal(data.train.images, packs.train.images)
    for name in ("3.PNG", "6.bmp", "7.gif", "8.tif"):  # kinds that lose nothing
        at = next(i for i, path in enumerate(data.train.names) if path.endswith(name))
        assert np.abs(data.train.images[at].astype(int) - np.asarray(picture(0))).max() == 0


@pytest.mark.parametrize("pack", [write_folder, zipped])
def test_files_of_other_kinds_are_counted(tmp_path: Path, pack: Pack) -> None:
    others = {"train/cat/a.PSD": b"", "train/dog/b.psd": b"", "test/dog/c.xml": b"", "test/dog/LICENSE": b""}
    aside = {"README.txt": b"", "train/list.csv": b"", "train/cat/desktop.ini": b"", "train/cat/.x": b""}
    path = pack(tmp_path / "pets", make_files() | others | aside)
    for _ in range(2):  # decoded, then from the cache
        notes = image_folder(path).notes
        assert notes == ("4 files of other kinds, not read: .psd 2, .xml 1, no suffix 1.",)
    (tmp_path / "more").mkdir()
    more = pack(tmp_path / "more" / "pets", make_files() | {"train/cat/a.psd": b""})
    assert image_folder(more).notes == ("1 file of other kinds, not read: .psd 1.",)


def test_many_kinds_are_cut_short(tmp_path: Path) -> None:
    others = {f"train/cat/{i}.x{i % 7}": b"" for i in range(8)}
    (note,) = image_folder(write_folder(tmp_path / "pets", make_files() | others)).notes
    assert note == "8 files of other kinds, not read: .x0 2, .x1 1, .x2 1, .x3 1, .x4 1 and others."


@pytest.mark.parametrize("folders", [True, False])
@pytest.mark.parametrize("pack", [write_folder, write_archive])
def test_a_class_of_other_kinds_alone_says_so(tmp_path: Path, folders: bool, pack: Pack) -> None:
    files = make_files() | {f"train/eel/{i}.psd": b"" for i in range(3)}
    if pack is write_folder:
        path = write_folder(tmp_path / "pets", files)
    else:
        path = write_archive(tmp_path / "a.zip", files, folders=folders)
    with pytest.raises(
        DataError, match=r"train/eel must hold at least one image, got none; not read: \.psd 3"
    ):
        image_folder(path)
