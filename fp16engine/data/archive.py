"""Bounded reading of files and archives: sizes in headers are checked, never trusted."""

from __future__ import annotations

import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from ..errors import DataError

_STEP = 1 << 20
_BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, struct.error, tarfile.TarError, zipfile.BadZipFile)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
ARCHIVE_SUFFIXES = (*TAR_SUFFIXES, ".zip")

Wanted = Callable[[str], bool]


class Member(NamedTuple):
    """A folder (data is None) or a regular file of an archive."""

    name: str
    data: bytes | None


def open_maybe_gzip(path: Path) -> BinaryIO:
    """Opens a file for reading, through gzip if its name ends in .gz."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")  # type: ignore[return-value]


def read_up_to(stream: BinaryIO, count: int, name: str) -> bytes:
    """Returns the next `count` bytes, fewer at the end; memory grows with what is there, not with `count`."""
    parts: list[bytes] = []
    try:
        while count > 0 and (part := stream.read(min(_STEP, count))):
            parts.append(part)
            count -= len(part)
    except _BROKEN as error:
        raise DataError(f"{name}: truncated or damaged ({error}), a whole file is wanted") from error
    return b"".join(parts)


class _Counted:
    """A stream for tarfile that stops at a limit and remembers whether it ended in zeros."""

    def __init__(self, stream: BinaryIO, limit: int, name: str) -> None:
        self._stream, self._left, self._limit, self._name = stream, limit, limit, name
        self.zero_end = False

    def read(self, size: int) -> bytes:
        part = self._stream.read(size)
        self._left -= len(part)
        if self._left < 0:
            raise DataError(f"{self._name}: unpacks to more than the {self._limit} bytes that are wanted")
        if part:
            self.zero_end = not any(part[-512:])
        return part


def _checked_name(name: str, archive: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise DataError(
            f"{archive}: member {name!r} points outside the archive, names below one folder are wanted"
        )
    return str(path)


def _checked_size(size: int, limit: int, name: str, archive: str) -> None:
    if size > limit:
        raise DataError(f"{archive}: member {name!r} says {size} bytes, at most {limit} are wanted")


def _tar_members(path: Path, wanted: Wanted, member_limit: int, total_limit: int) -> Iterator[Member]:
    with open(path, "rb") as raw, gzip.open(raw) if path.suffix != ".tar" else raw as unpacked:
        stream = _Counted(unpacked, total_limit, path.name)  # type: ignore[arg-type]
        with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
            while (info := tar.next()) is not None:
                tar.members = []  # or it keeps a record of every member
                name = _checked_name(info.name, path.name)
                if info.isdir():
                    yield Member(name, None)
                elif not info.isreg():
                    raise DataError(
                        f"{path.name}: member {info.name!r} is a link or device, plain files are wanted"
                    )
                elif wanted(name):
                    _checked_size(info.size, member_limit, info.name, path.name)
                    data = tar.extractfile(info).read()
                    if len(data) != info.size:
                        raise DataError(
                            f"{path.name}: truncated in member {info.name!r}, a whole archive is wanted"
                        )
                    yield Member(name, data)
        while stream.read(_STEP):  # the checksum of a gzip stream is looked at only at its end
            pass
        if not stream.zero_end:
            raise DataError(f"{path.name}: truncated (no end mark), a whole archive is wanted")


def _zip_members(path: Path, wanted: Wanted, member_limit: int, total_limit: int) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        _checked_size(sum(info.file_size for info in archive.infolist()), total_limit, "(all)", path.name)
        for info in archive.infolist():
            name = _checked_name(info.filename, path.name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                yield Member(name, None)
            elif kind not in (0, stat.S_IFREG):
                raise DataError(
                    f"{path.name}: member {info.filename!r} is a link or device, plain files are wanted"
                )
            elif info.flag_bits & 1:
                raise DataError(f"{path.name}: member {info.filename!r} is encrypted, plain files are wanted")
            elif wanted(name):
                _checked_size(info.file_size, member_limit, info.filename, path.name)
                yield Member(name, archive.read(info))


def members(path: Path, wanted: Wanted, member_limit: int, total_limit: int) -> Iterator[Member]:
    """Yields the folders of a tar, tar.gz or zip archive and those files whose names `wanted` accepts.

    Nothing is written to disk. The whole archive is read, so that damage anywhere in it is found.

    Args:
        path: the archive.
        wanted: takes a member's name, tells whether its bytes are needed.
        member_limit: the most bytes one wanted file may have.
        total_limit: the most bytes the archive may unpack to.

    Raises:
        DataError: damage, a link, a name that points outside, or a size over a limit.
    """
    reader = _zip_members if path.suffix == ".zip" else _tar_members
    try:
        yield from reader(path, wanted, member_limit, total_limit)
    except (*_BROKEN, NotImplementedError) as error:
        raise DataError(f"{path.name}: truncated or damaged ({error}), a whole archive is wanted") from error
