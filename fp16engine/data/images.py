"""People's own images, of any sizes and kinds, as a data set."""

from __future__ import annotations

import hashlib
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .. import validate
from ..bounded import check_regular, machine_memory
from ..errors import DataError
from ..reporting.counting import counting
from ..validate import printable
from . import archive, folders, image_files, picture, stratified
from . import cache as store
from .dataset import Dataset, Split
from .image_files import File, Found
from .origin import Origin

_PIXELS_AT_ONCE = 1 << 25  # in the threads together; Pillow takes up to 8 bytes for each
_ARRAY_FREE = 1 << 27  # bytes that any images may decode to
_ARRAY_RATIO = 100  # and so many times their files' own bytes, which only flat pictures pass
_THREADS = min(8, os.cpu_count() or 1)
_VERSION = "2"  # changes when the same files would give another array
Size = tuple[int, int]


def image_folder(
    root: str | Path | None,
    image_size: int | Sequence[int] | None = None,
    test_share: float | None = None,
    seed: int = 0,
    *,
    cache: bool = True,
    progress: bool | None = None,
) -> Dataset:
    """Return people's own images from `train/<class>/` and `test/<class>/`, or from `<class>/` alone.

    Files are JPEG, PNG, WebP, BMP, GIF, TIFF, and AVIF and HEIF where Pillow reads them; of a GIF or TIFF of
    several images, the first is taken. The images (N, H, W, C), uint8, have one channel if every file is
    gray, else three. They are taken in the orientation they are shown in;
    transparent pixels are laid on white, 16 bits a channel become 8, CMYK becomes RGB. `val`, `valid` or
    `validation` serves as the test part where there is no `test`. Where there is only one folder of classes,
    the test part is drawn from every class. Classes are sorted by name; within a part they take turns, so
    `limit(n)` holds all of them. A file that cannot be used is skipped, and the summary (`Dataset.notes`)
    says which and why, and how many files of other kinds lie in the class folders. Archives are read without
    unpacking them to disk. Decoding needs the extra `data` (Pillow).

    Args:
        root: folder, or .tar, .tar.gz, .tgz or .zip of one (a leading folder is allowed).
        image_size: pixels of a side, or (height, width): the shorter side is resized to it (bicubic), then
            the centre is cropped. None keeps the files' own size, which must be the same.
        test_share: the share of every class that is drawn for the test part; None means 0.2 where there is
            none.
        seed: of the draw.
        cache: keep the decoded images in one file in the user's cache folder, and use it as long as names and
            bytes of the files stay as they are.
        progress: True or None shows a bar on a terminal, plain lines elsewhere, and prints the summary, on
            standard error; False nothing.

    Raises:
        FileNotFoundError: the root is missing, or has no folder of images.
        DataError: an empty class, a single class, images of different sizes without image_size, a damaged
            archive or one with links; the message names the file.
        ValueError: image_size, test_share or seed is out of range, or there is a test part and test_share.
        TypeError: an argument is of the wrong kind.

    >>> image_folder("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: ...
    """
    path = folders.existing(root, "image_folder", f"a folder or archive with {image_files.LAYOUT}")
    size = None if image_size is None else validate.pair("image_size", image_size, 1)
    if test_share is not None:
        validate.number("test_share", test_share, above=0, below=1)
    validate.integer("seed", seed, 0, 2**64 - 1)
    shown = progress is None or validate.flag("progress", progress)
    found, name = _found(path)
    if found.parts[1] is not None and test_share is not None:
        raise ValueError(
            f"test_share must be None where {found.parts[1]} is the test part, got {test_share:g} for {path}"
        )
    share = stratified.SHARE if test_share is None else test_share
    drawn = (share, seed) if found.parts[1] is None else None
    fingerprint = _fingerprint(found, size, drawn) if cache else ""
    dataset = store.read(name, fingerprint) if cache else None
    if dataset is None:
        dataset = _decoded(found, name, size, drawn, shown)
        if cache:
            store.write(dataset, fingerprint)
    options = {"image_size": size, "test_share": test_share, "seed": seed or None}
    origin = Origin.at("image_folder", path, **options)
    notes = (*dataset.notes, *found.merged_note(), *found.others_note())
    dataset = Dataset(name, dataset.train, dataset.test, dataset.classes, origin, notes)
    if shown:
        print(dataset.summary(), file=sys.stderr, flush=True)
    return dataset


def _found(path: Path) -> tuple[Found, str]:
    """Return the image files of a folder or archive, and what the data set is called."""
    name = path.resolve().name
    if path.is_dir():
        return image_files.in_folder(path), name
    if not archive.is_archive(path.name):
        raise DataError(
            f"root (--data-dir) must be a folder or {', '.join(archive.ARCHIVE_SUFFIXES)}, got {path.name}"
        )
    check_regular(path, image_files.ARCHIVE_LIMIT)
    return image_files.in_archive(path), archive.stem(name)


def _fingerprint(found: Found, size: Size | None, drawn: tuple[float, int] | None) -> str:
    """Names the content: two folders or archives share one only if every name and byte is the same."""

    def digest(file: File) -> str:
        try:
            return "" if file.path in found.unusable else hashlib.sha256(file.read()).hexdigest()
        except (DataError, OSError) as error:
            found.unusable[file.path] = image_files.reason(file.path, error)
            return ""

    with ThreadPoolExecutor(_THREADS) as pool:
        sums = pool.map(digest, found.files)
        lines = sorted(f"{file.path}\0{digest}" for file, digest in zip(found.files, sums, strict=True))
    asked = f"{size} {drawn} {found.parts} {' '.join(picture.formats())}"
    return hashlib.sha256("\n".join([_VERSION, asked, *lines]).encode("utf-8", "surrogateescape")).hexdigest()


class _Skipped:
    """Why files are not used, and that every class keeps some that are."""

    def __init__(self, found: Found, name: str) -> None:
        self._found, self._name = found, name
        self.reasons = dict(found.unusable)
        self._lock = threading.Lock()

    def add(self, file: File, error: Exception) -> None:
        """Note why a file is not used; any thread may do so."""
        with self._lock:
            self.reasons[file.path] = image_files.reason(file.path, error)

    @property
    def used(self) -> list[File]:
        """The other files."""
        return [file for file in self._found.files if file.path not in self.reasons]

    def classes(self) -> tuple[str, ...]:
        """Return the training images' classes, sorted; DataError where one, or a part, has no image."""
        used = {(file.part, file.label) for file in self.used}
        asked = self._found.class_folders.keys() | {(file.part, file.label) for file in self._found.files}
        train = self._found.parts[0]
        for part, label in sorted(asked - used, key=lambda place: (place[0] != train, *place)):
            path = printable(f"{part}/{label}" if part else label)
            raise DataError(f"{path} must hold at least one image, got {self._instead(part, label)}")
        for part in filter(None, self._found.parts):
            if not any(own == part for own, _ in used):
                raise DataError(f"{self._name} must hold {image_files.LAYOUT}, got no {part} images")
        classes = sorted(label for part, label in used if part == train)
        for part, label in sorted(used):
            if label not in classes:
                raise DataError(
                    f"{part}/{printable(label)} must be a class with training images, got no folder "
                    f"{train}/{printable(label)}"
                )
        if len(classes) < 2:
            raise DataError(
                f"{self._name} must hold at least 2 classes, got one, {validate.shown(classes[0])}"
            )
        return tuple(classes)

    def _instead(self, part: str, label: str) -> str:
        own = [file.path for file in self._found.files if (file.part, file.label) == (part, label)]
        if not own:
            others = self._found.others_of(part, label)
            return f"none; not read: {others}" if others else "none"
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        return f"{len(own)} that cannot be used: {self.reasons[own[0]]}{more}"

    def notes(self) -> list[str]:
        """Return which files were skipped and why, in one sentence; nothing where all were used."""
        return [image_files.skipped(self.reasons)] if self.reasons else []


def _decoded(
    found: Found, name: str, size: Size | None, drawn: tuple[float, int] | None, shown: bool
) -> Dataset:
    picture.pillow()
    skipped = _Skipped(found, name)
    with picture.our_limits():
        with counting(f"{printable(name)}: looking at the images", len(found.files), shown) as done:
            heads = _headers(skipped, size is not None, done)
        classes = skipped.classes()
        train, test = _divided(skipped.used, found.parts, drawn, classes)
        files = [*train, *test]
        sizes = {heads[file.path].size for file in files}
        if size is None and len(sizes) > 1:
            _refuse_sizes(files, heads)
        gray = all(heads[file.path].gray for file in files)
        with counting(f"{printable(name)}: decoding", len(files), shown) as done:
            images, transparent = _pixels(files, heads, size, gray, skipped, done)
    if len(skipped.used) < len(files):
        classes = skipped.classes()
    kept = np.array([file.path not in skipped.reasons for file in files])
    numbers = {label: number for number, label in enumerate(classes)}
    labels = np.array([numbers.get(file.label, 0) for file in files], np.int64)
    parts = []
    for begin, end in ((0, len(train)), (len(train), len(files))):
        names = tuple(file.path for file in files[begin:end])
        part, good = Split(images[begin:end], labels[begin:end], names), kept[begin:end]
        parts.append(part if good.all() else part.at(good))
    notes = [
        *found.notes,
        *_drawn_note(found, drawn),
        *_changes([heads[file.path] for file in files], size, transparent),
        *skipped.notes(),
    ]
    return Dataset(name, parts[0], parts[1], classes, notes=tuple(notes))


def _headers(skipped: _Skipped, resized: bool, done: Callable[[int], None]) -> dict[str, picture.Header]:
    """Return what the files are; those that are no pictures are skipped."""

    def look(file: File) -> picture.Header | None:
        try:
            return picture.header(file.read(), file.path, resized)
        except (DataError, OSError) as error:
            skipped.add(file, error)
            return None
        finally:
            done(1)

    files = skipped.used
    with ThreadPoolExecutor(_THREADS) as pool:
        heads = list(pool.map(look, files))
    return {file.path: head for file, head in zip(files, heads, strict=True) if head is not None}


def _divided(
    files: list[File], parts: tuple[str, str | None], drawn: tuple[float, int] | None, classes: Sequence[str]
) -> tuple[list[File], list[File]]:
    """Return the files of the training and the test part, ordered so that the first n hold all classes."""
    files = sorted(files, key=lambda file: (file.label, file.path))
    if drawn is None:
        train, test = ([file for file in files if file.part == part] for part in parts)
    else:
        numbers = {label: number for number, label in enumerate(classes)}
        indices = stratified.drawn(np.array([numbers[file.label] for file in files]), *drawn)
        train, test = ([files[i] for i in index] for index in indices)
        if not test:
            raise DataError(
                f"{files[0].path} and the other images must be 2 or more of a class, got 1 of each"
            )
    return _in_turns(train), _in_turns(test)


def _in_turns(files: list[File]) -> list[File]:
    """Deal out the classes of sorted files in turn."""
    ranks: dict[str, int] = {}
    ranked = []
    for file in files:
        ranks[file.label] = ranks.get(file.label, -1) + 1
        ranked.append((ranks[file.label], file.label, file))
    return [file for _, _, file in sorted(ranked, key=lambda item: item[:2])]


def _refuse_sizes(files: list[File], heads: dict[str, picture.Header]) -> None:
    first = files[0]
    odd = next(file for file in files if heads[file.path].size != heads[first.path].size)
    got, valid = ("x".join(map(str, reversed(heads[file.path].size))) for file in (odd, first))
    raise DataError(
        f"{printable(odd.path)} must be {valid} (width x height) as {printable(first.path)} is, got {got}; "
        "--image-size N (image_size=N) brings images of different sizes to one"
    )


def _check_total(files: list[File], size: int, resized: bool) -> None:
    """Refuse more pixels than real images pack into files of this size, before any memory is taken.

    What a caller asks for by `image_size` may be half of this machine's memory.
    """
    limit = _ARRAY_FREE + _ARRAY_RATIO * sum(file.size for file in files)
    why = "as their files are small"
    if resized and size > limit:
        limit = (machine_memory() or 4 * limit) // 2
        why = "half of this machine's memory; a smaller image_size takes less"
    if size > limit:
        raise DataError(
            f"{printable(files[0].path)} and the {len(files) - 1} other images must decode to at most "
            f"{limit} bytes, {why}, got {size}"
        )


def _pixels(
    files: list[File],
    heads: dict[str, picture.Header],
    size: Size | None,
    gray: bool,
    skipped: _Skipped,
    done: Callable[[int], None],
) -> tuple[np.ndarray, int]:
    """Return the images (N, H, W, C) and how many had transparent pixels; a skipped one's are undefined."""
    shape = (len(files), *(size or heads[files[0].path].size), 1 if gray else 3)
    _check_total(files, math.prod(shape), size is not None)
    try:
        images = np.empty(shape, np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{printable(files[0].path)} must be smaller, got {len(files)} images of {shape[2]}x{shape[1]}, "
            "which exceed memory"
        ) from error
    budget = _Budget(_PIXELS_AT_ONCE)

    def fill(at: int) -> bool:
        file = files[at]
        try:
            with budget.of(heads[file.path].cost):
                found = picture.read(file.read(), file.path, size, gray)
            images[at] = found.pixels
            return found.transparent
        except (DataError, OSError) as error:
            skipped.add(file, error)
            return False
        finally:
            done(1)

    with ThreadPoolExecutor(_THREADS) as pool:
        return images, sum(pool.map(fill, range(len(files))))


class _Budget:
    """Lets threads decode together as long as their pictures have no more pixels than this."""

    def __init__(self, pixels: int) -> None:
        self._whole = self._left = pixels
        self._changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Wait until there is room; a picture that is larger than all of it has it alone."""
        pixels = min(pixels, self._whole)
        with self._changed:
            self._changed.wait_for(lambda: pixels <= self._left)
            self._left -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._left += pixels
                self._changed.notify_all()


def _drawn_note(found: Found, drawn: tuple[float, int] | None) -> list[str]:
    if drawn is None:
        return []
    whose = f"every class of {found.parts[0]}" if found.parts[0] else "every class"
    return [stratified.note(*drawn, whose)]


def _changes(heads: list[picture.Header], size: Size | None, transparent: int) -> list[str]:
    """Return in words what was done to the pixels."""
    result = []
    if size is not None and (count := sum(head.size != size for head in heads)):
        result.append(
            f"{count:,} of {len(heads):,} images are resized to {size[0]}x{size[1]}: the shorter side, "
            "then the centre is cropped."
        )
    deep = sum(head.deep for head in heads)
    several = [
        (deep, "have 16 bits a channel, which become 8"),
        (transparent, "have transparent pixels, laid on white"),
    ]
    return result + [f"{count:,} of {len(heads):,} images {words}." for count, words in several if count]
