"""Bounded reading of files and archives: sizes in headers are checked, never trusted."""

from __future__ import annotations

import gzip
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from textwrap import shorten
from typing import BinaryIO, NamedTuple, Protocol

from ..bounded import check_regular, unpacked_limit
from ..errors import DataError
from ..validate import shown
from .tar import TarReader

_STEP = 1 << 20
_BROKEN = (EOFError, gzip.BadGzipFile, zlib.error)
_DIRECTORY_LIMIT = 1 << 24  # bytes of a zip's list of members, about 200 000 of them
_ZIP_TAIL = 22 + (1 << 16)  # a zip's end record and its comment
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHERS = 1 << 16  # members that are not read: a header costs its maker few bytes, and its reader time
_AFTER_END = 1 << 20  # bytes of padding after a tar's end mark
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
ARCHIVE_SUFFIXES = (*TAR_SUFFIXES, ".zip")

Select = Callable[[str], bool]


class Member(NamedTuple):
    """A folder (data is None) or a regular file of an archive."""

    name: str
    data: bytes | None


class Readable(Protocol):
    """What `read_up_to` needs of a stream."""

    def read(self, size: int, /) -> bytes: ...


class _Unpacked:
    """A compressed file as it was before; it ends with DataError at what it may unpack to."""

    def __init__(self, stream: BinaryIO, limit: int, name: str) -> None:
        self._stream, self._left, self.limit, self._name = stream, limit, limit, name

    def read(self, size: int) -> bytes:
        return self._counted(self._stream.read(size))

    def readline(self, size: int) -> bytes:
        return self._counted(self._stream.readline(size))

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._name} must unpack to at most {self.limit} bytes, got more")
        return data

    def __enter__(self) -> _Unpacked:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def open_unpacked(path: Path, limit: int) -> _Unpacked:
    """Open a regular file of at most `limit` bytes, packed or not; through gzip if its name says so."""
    packed = check_regular(path, limit).st_size
    if path.suffix.lower() not in (".gz", ".tgz"):
        return _Unpacked(open(path, "rb"), limit, path.name)
    return _Unpacked(gzip.open(path, "rb"), unpacked_limit(packed, limit), path.name)  # type: ignore[arg-type]


@contextmanager
def damage(name: str, whole: str = "file") -> Iterator[None]:
    """Turn the errors of a decompressor into DataError: `name` is truncated or damaged."""
    try:
        yield
    except _BROKEN as error:
        raise DataError(
            f"{name} must be a whole {whole}, got one that is truncated or damaged ({error})"
        ) from error


def read_up_to(stream: Readable, count: int, name: str) -> bytes:
    """Return the next `count` bytes, fewer at the end; memory grows with what is there, not with `count`."""
    parts: list[bytes] = []
    with damage(name):
        while count > 0 and (part := stream.read(min(_STEP, count))):
            parts.append(part)
            count -= len(part)
    return b"".join(parts)


def _checked_name(name: str, archive: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise DataError(
            f"{archive}: member {shown(name)} must lie below the archive's own folder, got a path outside"
        )
    return str(path)


def _checked_size(size: int, limit: int, name: str, archive: str) -> None:
    if size > limit:
        raise DataError(f"{archive}: member {shown(name)} must have at most {limit} bytes, got {size}")


def _tar_members(path: Path, select: Select, member_limit: int, total_limit: int) -> Iterator[Member]:
    with open_unpacked(path, total_limit) as stream:
        tar = TarReader(stream.read, stream.limit, path.name)
        for entry in tar.entries():
            name = _checked_name(entry.name, path.name)
            if entry.size is None:
                yield Member(name, None)
            elif select(name):
                _checked_size(entry.size, member_limit, name, path.name)
                yield Member(name, tar.data(entry.size))
        # the checksum of a gzip stream is looked at only at its end
        if len(read_up_to(stream, _AFTER_END, path.name)) == _AFTER_END:
            raise DataError(f"{path.name} must end at its end mark, got {_AFTER_END} bytes or more after it")


def _check_directory(path: Path, size: int) -> None:
    """Refuse a zip's list of members by its stated length, before zipfile reads it whole."""
    with open(path, "rb") as stream:
        stream.seek(max(0, size - _ZIP_TAIL))
        tail = stream.read(_ZIP_TAIL)
    at = tail.rfind(b"PK\5\6")
    stated = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if stated > _DIRECTORY_LIMIT:
        raise DataError(
            f"{path.name}: the list of members must have at most {_DIRECTORY_LIMIT} bytes, got {stated}; "
            "a .tar has no such limit"
        )


def _zip_members(path: Path, select: Select, member_limit: int, total_limit: int) -> Iterator[Member]:
    packed = check_regular(path, total_limit).st_size
    _check_directory(path, packed)
    with zipfile.ZipFile(path) as archive:
        limit = unpacked_limit(packed, total_limit)
        _checked_size(sum(info.file_size for info in archive.infolist()), limit, "(all)", path.name)
        for info in archive.infolist():
            name = _checked_name(info.filename, path.name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                yield Member(name, None)
            elif kind not in (0, stat.S_IFREG):
                raise DataError(
                    f"{path.name}: member {shown(info.filename)} must be a plain file, got a link or device"
                )
            elif info.flag_bits & 1:
                raise DataError(
                    f"{path.name}: member {shown(info.filename)} must be a plain file, got an encrypted one"
                )
            elif select(name):
                if info.compress_type not in _ZIP_METHODS:  # LZMA takes the memory that its header asks for
                    raise DataError(
                        f"{path.name}: member {shown(info.filename)} must be stored or deflated, got "
                        f"compression method {info.compress_type}"
                    )
                _checked_size(info.file_size, member_limit, info.filename, path.name)
                with archive.open(info) as stream:  # archive.read unpacks it all, whatever its stated size
                    yield Member(name, read_up_to(stream, info.file_size + 1, path.name))


def is_there(path: Path) -> bool:
    """Tell whether there is a file; one that is not regular counts, so that it is refused by its name."""
    return path.exists() and not path.is_dir()


def is_archive(name: str) -> bool:
    """Tell whether a file is an archive by its name, in small letters or capitals."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def stem(name: str) -> str:
    """Return an archive's name without its suffix."""
    length = next((len(end) for end in ARCHIVE_SUFFIXES if name.lower().endswith(end)), 0)
    return name[: len(name) - length]


def members(path: Path, select: Select, member_limit: int, total_limit: int) -> Iterator[Member]:
    """Yield the folders of a tar, tar.gz or zip archive and those files whose names `select` accepts.

    Nothing is written to disk. The whole archive is read, so that damage anywhere in it is found.

    Args:
        path: the archive.
        select: takes a member's name, tells whether its bytes are needed.
        member_limit: the most bytes one selected file may have.
        total_limit: the most bytes the archive may unpack to.

    Raises:
        DataError: damage, a link, a sparse file, a name that points outside, or a size over a limit.
    """
    reader = _zip_members if path.suffix.lower() == ".zip" else _tar_members
    others = 0

    def count(selected: bool) -> bool:
        nonlocal others
        others += -1 if selected else 1
        if others > _OTHERS:
            raise DataError(
                f"{path.name} must have at most {_OTHERS} more folders and other members than files that are "
                "read, got more"
            )
        return selected

    try:
        for member in reader(path, lambda name: count(select(name)), member_limit, total_limit):
            if member.data is None:
                count(False)
            yield member
    except (DataError, PermissionError, FileNotFoundError):
        raise
    except Exception as error:  # damaged bytes can make zipfile and gzip raise nearly anything
        said = shorten(str(error) or type(error).__name__, 200)
        raise DataError(
            f"{path.name} must be a whole archive, got one that is truncated or damaged ({said})"
        ) from error
