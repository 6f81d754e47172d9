"""A tar archive from front to back, with a bound on everything that a header may ask for.

The standard library's reader believes headers: it fills the holes of sparse files, keeps extended headers of
any size and skips 2^58 bytes one block at a time. This one knows files, folders and long names, and refuses
the rest.
POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

from ..bounded import HEADER_LIMIT, MEMBER_LIMIT
from ..errors import DataError
from ..validate import shown

_BLOCK = 512
_HEADERS = 8  # extended headers of one member
_CHUNK = 1 << 20
_REGULAR, _FOLDER, _SPARSE = (b"\0", b"0", b"7"), b"5", b"S"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_FOR_ALL = b"L", b"K", b"x", b"g"

Read = Callable[[int], bytes]  # returns as many bytes as asked for, fewer at the end of the archive


class Entry(NamedTuple):
    """A folder (size is None) or a regular file, whose bytes come next."""

    name: str
    size: int | None


class TarReader:
    """Walks over `entries()`; `data(size)` takes the bytes of the last file, which are skipped otherwise."""

    def __init__(self, read: Read, limit: int, archive: str) -> None:
        self._read, self._left, self._limit, self._archive = read, limit, limit, archive
        self._waiting = 0  # bytes of the last file, not taken yet
        self._padding = 0

    def entries(self) -> Iterator[Entry]:
        """Yield folders and files up to the end mark, which must be there."""
        long_name: str | None = None
        long_size: int | None = None
        headers = 0
        for _ in range(MEMBER_LIMIT):
            self._skip()
            block = self._take(_BLOCK)
            if not any(block):
                self._check_end()
                return
            self._check_sum(block)
            kind, size = block[156:157], self._number(block[124:136])
            if kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_FOR_ALL):
                headers += 1
                if headers > _HEADERS:
                    raise DataError(
                        f"{self._archive}: a member must have at most {_HEADERS} extended headers, got more"
                    )
                content = self._header(size)
                if kind == _LONG_NAME:
                    long_name = _text(content)
                elif kind == _PAX:
                    fields = self._pax(content)
                    long_name = fields.get("path", long_name)
                    long_size = int(fields["size"]) if "size" in fields else long_size
                continue
            name = _ustar_name(block) if long_name is None else long_name
            size = size if long_size is None else long_size
            long_name = long_size = None
            headers = 0
            yield self._entry(name, kind, size)
        raise DataError(
            f"{self._archive} must have at most {MEMBER_LIMIT} members, got more; a folder has no such limit"
        )

    def data(self, size: int) -> bytes:
        """Return the bytes of the file that `entries` yielded last."""
        self._waiting -= size
        return self._take(size)

    def _entry(self, name: str, kind: bytes, size: int) -> Entry:
        if kind == _SPARSE:
            self._refuse_sparse(name)
        if kind == _FOLDER or (kind in _REGULAR and name.endswith("/")):
            return Entry(name, None)
        if kind not in _REGULAR:
            raise DataError(
                f"{self._archive}: member {shown(name)} must be a plain file, got a link or device"
            )
        if size > self._left:
            raise DataError(
                f"{self._archive}: member {shown(name)} must have at most {self._left} bytes, as the archive "
                f"may unpack to {self._limit}, got {size}"
            )
        self._await(size)
        return Entry(name, size)

    def _await(self, size: int) -> None:
        self._waiting, self._padding = size, -size % _BLOCK

    def _skip(self) -> None:
        while self._waiting:
            self._waiting -= len(self._take(min(_CHUNK, self._waiting)))
        self._take(self._padding)
        self._padding = 0

    def _take(self, count: int) -> bytes:
        self._left -= count
        if self._left < 0:
            raise DataError(f"{self._archive} must unpack to at most {self._limit} bytes, got more")
        data = self._read(count)
        if len(data) < count:
            self._refuse_no_end()
        return data

    def _header(self, size: int) -> bytes:
        if size > HEADER_LIMIT:
            raise DataError(
                f"{self._archive}: an extended header must have at most {HEADER_LIMIT} bytes, got {size}"
            )
        content = self._take(size)
        self._await(0)
        self._padding = -size % _BLOCK
        return content

    def _pax(self, content: bytes) -> dict[str, str]:
        """Return the fields of an extended header: records of `<length> <key>=<value>` and a line feed."""
        fields: dict[str, str] = {}
        at = 0
        while at < len(content):
            digits, _, _ = content[at : at + 6].partition(b" ")
            length = int(digits) if digits.isdigit() else 0
            record = content[at + len(digits) + 1 : at + length]
            if not record.endswith(b"\n") or b"=" not in record:
                self._refuse_header()
            key, _, value = record[:-1].partition(b"=")
            if key.startswith(b"GNU.sparse."):
                self._refuse_sparse(fields.get("path", "(unnamed)"))
            if key in (b"path", b"size"):
                fields[key.decode()] = _text(value)
            at += length
        size = fields.get("size", "0")
        if not (size.isascii() and size.isdigit() and len(size) < 20):
            self._refuse_header()
        return fields

    def _number(self, field: bytes) -> int:
        if field[0] == 0x80:  # GNU's binary form, for sizes of 8 GiB and more
            return int.from_bytes(field[1:], "big")
        digits = field.strip(b" \0")
        if any(digit not in b"01234567" for digit in digits):
            self._refuse_header()
        return int(digits or b"0", 8)

    def _check_sum(self, block: bytes) -> None:
        if self._number(block[148:156]) != sum(block[:148]) + 8 * ord(" ") + sum(block[156:]):
            self._refuse_header()

    def _check_end(self) -> None:
        """Check the second of the two blocks of zeros that end an archive."""
        block = self._read(_BLOCK)
        if len(block) < _BLOCK or any(block):
            self._refuse_no_end()

    def _refuse_no_end(self) -> NoReturn:
        raise DataError(f"{self._archive} must be a whole archive, got one without end mark (truncated)")

    def _refuse_header(self) -> NoReturn:
        raise DataError(f"{self._archive} must be a whole archive, got no tar header (truncated or damaged)")

    def _refuse_sparse(self, name: str) -> NoReturn:
        raise DataError(f"{self._archive}: member {shown(name)} must be a plain file, got a sparse one")


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _ustar_name(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name
