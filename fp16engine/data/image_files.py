"""Finds image files by part and class in a folder or an archive; what is in them is not looked at."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..bounded import check_regular, read_regular
from ..errors import DataError
from ..validate import printable, shown
from . import archive, picture

LAYOUT = "train/<class>/ and test/<class>/, or <class>/ alone, with images"
_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")  # the first that is there is tested on
FILE_LIMIT = 1 << 26  # bytes of one packed image
ARCHIVE_LIMIT = 1 << 34
_NAMED = 5  # skipped files that a sentence names
_SYSTEMS = ("thumbs.db", "desktop.ini")  # files that Windows puts into folders
_OTHERS = 1 << 12  # members of an archive that are called images and are none


class File(NamedTuple):
    """One image file: where it is, and its bytes or path. `part` is "" before a test part is drawn."""

    part: str
    label: str
    path: str
    source: bytes | Path

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.source) if isinstance(self.source, bytes) else os.stat(self.source).st_size

    def read(self) -> bytes:
        """Return the whole file, from the disk if it lies there."""
        if isinstance(self.source, bytes):
            return self.source
        return read_regular(self.source, FILE_LIMIT, self.path)


@dataclass
class Found:
    """The image files of a root, its class folders by (part, class), and what was seen of other things.

    `parts` are the folders of the training and the test part; None where the test part is to be drawn.
    `unusable` are the reasons, by file. `others` counts files that are not read, by (part, class, suffix).
    """

    parts: tuple[str, str | None] = ("", None)
    files: list[File] = field(default_factory=list)
    class_folders: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    others: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add_class(self, part: str, folder: str) -> str:
        """Note a class folder, and return the class's name; systems write accents in two ways."""
        label = unicodedata.normalize("NFC", folder)
        self.class_folders.setdefault((part, label), set()).add(folder)
        return label

    def merged_note(self) -> list[str]:
        """Return which classes have folders of several names, in one sentence; nothing for none."""
        names: dict[str, set[str]] = {}
        for (_, label), folders in self.class_folders.items():
            names.setdefault(label, set()).update(folders)
        merged = sorted(label for label, folders in names.items() if len(folders) > 1)
        if not merged:
            return []
        named = ", ".join(map(printable, merged[:_NAMED])) + (" and others" if len(merged) > _NAMED else "")
        return [f"Folders whose names differ only in how Unicode writes accents are one class: {named}."]

    def others_of(self, part: str, label: str) -> str:
        """Return how many files of a class folder are not read, by suffix; "" for none."""
        return _by_suffix({key[2]: n for key, n in self.others.items() if key[:2] == (part, label)})

    def others_note(self) -> list[str]:
        """Return how many files of the class folders are not read, in one sentence; nothing for none."""
        kinds: Counter[str] = Counter()
        for (_, _, suffix), count in self.others.items():
            kinds[suffix] += count
        files = "1 file" if kinds.total() == 1 else f"{kinds.total():,} files"
        return [f"{files} of other kinds, not read: {_by_suffix(kinds)}."] if kinds else []


def reason(path: str, error: Exception) -> str:
    """Return why a file cannot be used, in words that name it.

    >>> reason("cat/1.png", PermissionError(13, "Permission denied"))
    'cat/1.png cannot be read: Permission denied'
    """
    words = error.strerror if isinstance(error, OSError) else None
    return f"{path} cannot be read: {words}" if words else str(error)


def skipped(reasons: Mapping[str, str]) -> str:
    """Return which files were skipped and why, in one sentence; `reasons` by file, at least one.

    >>> skipped({"1.png": "1.png must be a regular file, got a FIFO"})
    '1 file is skipped: 1.png must be a regular file, got a FIFO.'
    """
    first = [printable(why) for _, why in sorted(reasons.items())[:_NAMED]]
    more = f"; and {len(reasons) - _NAMED:,} more" if len(reasons) > _NAMED else ""
    files = "1 file is" if len(reasons) == 1 else f"{len(reasons):,} files are"
    return f"{files} skipped: {'; '.join(first)}{more}."


def is_image(name: str) -> bool:
    """Tell by a path whether it is an image that somebody put there."""
    base = name.rsplit("/", 1)[-1]
    return _is_visible(name) and base.lower().endswith(picture.SUFFIXES)


def _is_visible(name: str) -> bool:
    """Tell by a path whether somebody put a file there, and not the system."""
    base = name.rsplit("/", 1)[-1]
    return not base.startswith(".") and not name.startswith("__MACOSX/") and base.casefold() not in _SYSTEMS


def _suffix(name: str) -> str:
    return printable(PurePosixPath(name).suffix.lower()) or "no suffix"


def _by_suffix(counts: Mapping[str, int]) -> str:
    """Return counts in words, the largest first.

    >>> _by_suffix({".txt": 1, ".psd": 1200})
    '.psd 1,200, .txt 1'
    """
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = " and others" if len(ordered) > _NAMED else ""
    return ", ".join(f"{suffix} {count:,}" for suffix, count in ordered[:_NAMED]) + more


def in_folder(root: Path) -> Found:
    """Find the images below a folder; links are followed.

    Raises:
        FileNotFoundError: there is a test part and no training part, or no folder at all.
        DataError: images lie outside the class folders.
    """
    entries = list(_visible(root))
    folders = [entry.name for entry in entries if _is_folder(entry)]
    if len(folders) == 1 and not _find(folders, (*_TRAIN, *_TEST)):
        inner = list(_visible(root / folders[0]))
        if any(map(_is_folder, inner)):
            return in_folder(root / folders[0])
    found = Found(_parts(folders, root))
    if found.parts[0]:
        _note_left_out(found, folders)
        for part in filter(None, found.parts):
            _add_classes(found, root, part, _visible(root / part))
    else:
        _add_classes(found, root, "", entries)
    return found


def _add_classes(found: Found, root: Path, part: str, entries: Iterable[os.DirEntry[str]]) -> None:
    within = f"{part}/" if part else ""
    for entry in entries:
        if not _is_folder(entry):
            if is_image(entry.name):
                raise DataError(
                    f"{root.name} must hold {LAYOUT}, got {shown(within + entry.name)} outside a class"
                )
            continue
        label = found.add_class(part, entry.name)
        for item in _visible(entry.path):
            path = f"{within}{entry.name}/{item.name}"
            if _is_folder(item):
                raise DataError(f"{root.name} must hold {LAYOUT}, got a folder inside a class: {shown(path)}")
            if is_image(item.name):
                file = File(part, label, path, Path(item.path))
                try:
                    check_regular(Path(item.path), FILE_LIMIT, path)
                except (DataError, OSError) as error:
                    found.unusable[path] = reason(path, error)
                found.files.append(file)
            elif _is_visible(item.name):
                found.others[part, label, _suffix(item.name)] += 1


def in_archive(path: Path) -> Found:
    """Find the images of an archive, and their bytes; one leading folder is allowed.

    Raises:
        DataError: damage, links, names that point outside, images outside the class folders, or too many.
    """
    files: list[tuple[tuple[str, ...], bytes]] = []
    folders: set[tuple[str, ...]] = set()
    not_read: list[tuple[str, ...]] = []

    def select(name: str) -> bool:
        image = is_image(name)
        if not image and _is_visible(name):
            not_read.append(PurePosixPath(name).parts)
        return image

    others = 0
    for member in archive.members(path, select, FILE_LIMIT, ARCHIVE_LIMIT):
        parts = PurePosixPath(member.name).parts
        if member.data is not None:
            others += not picture.begins_like_a_picture(member.data)
            if others > _OTHERS:  # before a million of them are read
                raise DataError(
                    f"{path.name} must hold images, got more than {_OTHERS} files that are none, the last "
                    f"{shown(member.name)}"
                )
            files.append((parts, member.data))
        elif parts and parts[0] != "__MACOSX" and not any(part.startswith(".") for part in parts):
            folders.add(parts)
    tops = _tops(files, folders)
    if len(tops) == 1 and not _find(tops, (*_TRAIN, *_TEST)):
        files = [(parts[1:], data) for parts, data in files if len(parts) > 1]
        not_read = [parts[1:] for parts in not_read]
        folders = {parts[1:] for parts in folders if len(parts) > 1}
        tops = _tops(files, folders)
    found = _of_archive(path, files, folders, tops)
    depth = 1 if found.parts[0] else 0
    for parts in not_read:
        if len(parts) == depth + 2 and (not depth or parts[0] in found.parts):
            part = parts[0] if depth else ""
            label = found.add_class(part, parts[-2])
            found.others[part, label, _suffix(parts[-1])] += 1
    return found


def _of_archive(
    path: Path, files: list[tuple[tuple[str, ...], bytes]], folders: set[tuple[str, ...]], tops: list[str]
) -> Found:
    found = Found(_parts(tops, path))
    depth = 1 if found.parts[0] else 0
    if depth:
        _note_left_out(found, tops)
    for parts in folders:
        if len(parts) == depth + 1 and (not depth or parts[0] in found.parts):
            found.add_class(parts[0] if depth else "", parts[-1])
    for parts, data in files:
        name = "/".join(parts)
        if depth and parts[0] not in found.parts:
            if _find(parts[1:2], _TRAIN):
                raise DataError(f"{path.name} must hold images below one folder, got 2 folders")
            continue
        if len(parts) != depth + 2:
            raise DataError(f"{path.name} must hold {LAYOUT}, got member {shown(name)}")
        part = parts[0] if depth else ""
        found.files.append(File(part, found.add_class(part, parts[-2]), name, data))
    if len({file.path for file in found.files}) != len(found.files):
        raise DataError(f"{path.name} must hold different names, got an image's name twice")
    return found


def _tops(files: list[tuple[tuple[str, ...], bytes]], folders: set[tuple[str, ...]]) -> list[str]:
    return sorted({parts[0] for parts, _ in files if len(parts) > 1} | {parts[0] for parts in folders})


def _parts(folders: Iterable[str], root: Path) -> tuple[str, str | None]:
    """Return the folders of the training and the test part; ("", None) for a folder of classes."""
    names = list(folders)
    train, test = _find(names, _TRAIN), _find(names, _TEST)
    if not train and (test or not names):
        got = f"a folder {test} and no folder train" if test else "no folder of images"
        raise FileNotFoundError(f"{root} must hold {LAYOUT}, got {got}")
    return train, test or None if train else None


def _find(folders: Iterable[str], names: tuple[str, ...]) -> str:
    """Return the folder that has the first of these names, in small letters or capitals; "" for none."""
    known = {folder.casefold(): folder for folder in folders}
    return next((known[name] for name in names if name in known), "")


def _note_left_out(found: Found, folders: Iterable[str]) -> None:
    known = (*_TRAIN, *_TEST)
    others = sorted(name for name in folders if name.casefold() in known and name not in found.parts)
    if others:
        found.notes.append(f"{', '.join(others)} is left out: {found.parts[1]} is the test part.")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return Path(entry.path).is_dir()  # entry.is_dir() raises for a link to itself


def _visible(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith((".", "__MACOSX")))
